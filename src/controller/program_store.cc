#include "controller/program_store.h"

#include <openssl/sha.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"

namespace causeway {
namespace {

namespace fs = std::filesystem;

constexpr absl::string_view kMagic("CWPROG\0\1", 8);
constexpr char kSuffix[] = ".program";

// No file of ours is larger: what is, is not read into memory.
constexpr uintmax_t kMaxFileBytes = uintmax_t{2} << 30;

std::string Digest(absl::string_view bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return std::string(reinterpret_cast<const char*>(digest.data()), digest.size());
}

}  // namespace

absl::StatusOr<std::unique_ptr<ProgramStore>> ProgramStore::Open(const std::string& directory, int64_t max_bytes) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) {
    return absl::PermissionDeniedError(absl::StrCat("cannot make the folder ", directory, ": ", error.message()));
  }
  if (access(directory.c_str(), R_OK | W_OK | X_OK) != 0) {
    return absl::PermissionDeniedError(absl::StrCat("cannot use the folder ", directory, ": ", strerror(errno)));
  }
  return std::unique_ptr<ProgramStore>(new ProgramStore(directory, max_bytes));
}

std::string ProgramStore::PathOf(const std::string& key) const { return absl::StrCat(directory_, "/", key, kSuffix); }

std::string ProgramStore::Encode(const proto::PortableProgram& program) {
  const std::string body = program.SerializeAsString();
  return absl::StrCat(kMagic, Digest(body), body);
}

absl::StatusOr<PortableRef> ProgramStore::Decode(absl::string_view bytes) {
  const size_t header = kMagic.size() + SHA256_DIGEST_LENGTH;
  if (bytes.size() < header || bytes.substr(0, kMagic.size()) != kMagic) {
    return absl::InvalidArgumentError("it is no compiled program of this version");
  }
  const absl::string_view body = bytes.substr(header);
  if (Digest(body) != bytes.substr(kMagic.size(), SHA256_DIGEST_LENGTH)) {
    return absl::InvalidArgumentError("it is damaged");
  }
  auto program = std::make_shared<proto::PortableProgram>();
  if (!program->ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    return absl::InvalidArgumentError("it is no compiled program");
  }
  return program;
}

PortableRef ProgramStore::Find(const std::string& key) {
  const std::string path = PathOf(key);
  std::error_code error;
  const uintmax_t size = fs::file_size(path, error);
  if (error || size > kMaxFileBytes) return nullptr;
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  absl::StatusOr<PortableRef> program = Decode(bytes.str());
  if (!program.ok()) {
    Log(LogLevel::kWarning, absl::StrCat("compiling again what ", path, " should hold: ", program.status().message()));
    fs::remove(path, error);
    return nullptr;
  }
  fs::last_write_time(path, fs::file_time_type::clock::now(), error);  // it was used
  return *std::move(program);
}

void ProgramStore::Keep(const std::string& key, const proto::PortableProgram& program) {
  const std::string bytes = Encode(program);
  if (static_cast<int64_t>(bytes.size()) > max_bytes_) return;
  if (const absl::Status written = Write(key, bytes); !written.ok()) {
    Log(LogLevel::kWarning, absl::StrCat("a compiled program is not kept for later controllers: ", written.message()));
    return;
  }
  MakeRoom();
}

absl::Status ProgramStore::Write(const std::string& key, const std::string& bytes) const {
  const std::string aside = absl::StrCat(directory_, "/", key, ".", getpid(), ".new");
  std::error_code error;
  {
    std::ofstream file(aside, std::ios::binary | std::ios::trunc);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    file.close();
    if (!file) {
      const std::string why = strerror(errno);
      fs::remove(aside, error);
      return absl::UnavailableError(absl::StrCat("cannot write ", aside, ": ", why));
    }
  }
  fs::rename(aside, PathOf(key), error);
  if (!error) return absl::OkStatus();
  const std::string why = error.message();
  fs::remove(aside, error);
  return absl::UnavailableError(absl::StrCat("cannot rename ", aside, ": ", why));
}

void ProgramStore::MakeRoom() {
  std::vector<std::tuple<fs::file_time_type, fs::path, uintmax_t>> files;
  uintmax_t total = 0;
  std::error_code error;
  for (fs::directory_iterator it(directory_, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() != kSuffix) continue;
    std::error_code gone;  // by another controller
    const auto used = it->last_write_time(gone);
    const uintmax_t size = gone ? 0 : it->file_size(gone);
    if (gone) continue;
    files.emplace_back(used, it->path(), size);
    total += size;
  }
  std::sort(files.begin(), files.end());
  for (const auto& [used, path, size] : files) {
    if (total <= static_cast<uintmax_t>(max_bytes_)) return;
    fs::remove(path, error);
    total -= size;
  }
}

}  // namespace causeway
