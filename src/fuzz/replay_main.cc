// The main of a fuzz target where there is no fuzzer: replays a corpus, then mutations of it from a fixed seed.
//
//   ifrt_session_fuzz [--mutations=N] [--seed=N] [FILE or FOLDER]…
//
// What libFuzzer calls is called here with the same bytes, so a crash file of `make fuzz` can be looked at in any build
// and any debugger. When a mutation crashes, the input lies in crash-TARGET in the working folder.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAUSEWAY_HAS_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define CAUSEWAY_HAS_ASAN 1
#endif
#ifdef CAUSEWAY_HAS_ASAN
extern "C" void __sanitizer_set_death_callback(void (*callback)());
#endif

namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t kMaxBytes = 4096;

// What is being run, for the crash file.
const Bytes* running = nullptr;
std::string crash_file;

void SaveRunning() {
  if (running == nullptr) return;
  const int fd = open(crash_file.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return;
  const bool written = write(fd, running->data(), running->size()) == static_cast<ssize_t>(running->size());
  close(fd);
  const std::string text = written ? "the input that crashed is in " + crash_file + "\n" : "";
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;
  running = nullptr;
}

void OnSignal(int signal) {
  SaveRunning();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void Run(const Bytes& input) {
  running = &input;
  LLVMFuzzerTestOneInput(input.data(), input.size());
  running = nullptr;
}

Bytes ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    std::fprintf(stderr, "cannot read %s\n", path.c_str());
    std::exit(2);
  }
  return Bytes(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

// Inputs in the order of their names.
std::vector<Bytes> ReadCorpus(const std::vector<std::string>& places) {
  std::vector<std::filesystem::path> paths;
  for (const std::string& place : places) {
    if (!std::filesystem::is_directory(place)) {
      paths.emplace_back(place);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(place)) {
      if (entry.is_regular_file()) paths.push_back(entry.path());
    }
  }
  std::sort(paths.begin(), paths.end());
  std::vector<Bytes> corpus;
  for (const auto& path : paths) corpus.push_back(ReadFile(path));
  return corpus;
}

// One of the mutations that a fuzzer does, without its feedback.
void Mutate(Bytes& input, const std::vector<Bytes>& corpus, std::mt19937_64& random) {
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  const size_t at = below(input.size() + 1);
  switch (below(6)) {
    case 0:
      if (at < input.size()) input[at] ^= static_cast<uint8_t>(1u << below(8));
      break;
    case 1:
      if (at < input.size()) input[at] = static_cast<uint8_t>(random());
      break;
    case 2:
      input.insert(input.begin() + at, static_cast<uint8_t>(random()));
      break;
    case 3: {
      const size_t length = std::min(input.size() - at, 1 + below(8));
      input.erase(input.begin() + at, input.begin() + at + length);
      break;
    }
    case 4: {
      const size_t length = std::min(input.size() - at, 1 + below(16));
      const Bytes piece(input.begin() + at, input.begin() + at + length);
      input.insert(input.begin() + below(input.size() + 1), piece.begin(), piece.end());
      break;
    }
    default: {
      const Bytes& other = corpus[below(corpus.size())];
      const size_t from = below(other.size() + 1);
      input.resize(at);
      input.insert(input.end(), other.begin() + from, other.end());
    }
  }
  if (input.size() > kMaxBytes) input.resize(kMaxBytes);
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t mutations = 0;
  uint64_t seed = 1;
  std::vector<std::string> places;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    uint64_t* number = absl::ConsumePrefix(&argument, "--mutations=") ? &mutations
                       : absl::ConsumePrefix(&argument, "--seed=")    ? &seed
                                                                      : nullptr;
    if (number == nullptr && !argument.empty() && argument[0] != '-') {
      places.emplace_back(argument);
    } else if (number == nullptr || !absl::SimpleAtoi(argument, number)) {
      std::fprintf(stderr, "usage: %s [--mutations=N] [--seed=N] [FILE or FOLDER]...\n", argv[0]);
      return 2;
    }
  }
  crash_file = absl::StrCat("crash-", std::filesystem::path(argv[0]).filename().string());
#ifdef CAUSEWAY_HAS_ASAN
  __sanitizer_set_death_callback(SaveRunning);
#endif
  for (int signal : {SIGABRT, SIGSEGV, SIGFPE, SIGBUS, SIGILL}) std::signal(signal, OnSignal);

  std::vector<Bytes> corpus = ReadCorpus(places);
  for (const Bytes& input : corpus) Run(input);
  const size_t replayed = corpus.size();
  if (corpus.empty()) corpus.emplace_back();
  std::mt19937_64 random(seed);
  for (uint64_t n = 0; n < mutations; ++n) {
    Bytes input = corpus[random() % corpus.size()];
    for (uint64_t steps = 1 + random() % 4; steps > 0; --steps) Mutate(input, corpus, random);
    Run(input);
  }
  std::printf("%zu inputs of the corpus and %llu mutations: nothing crashed\n", replayed,
              static_cast<unsigned long long>(mutations));
  return 0;
}
