#include "controller/program_cache.h"

#include <openssl/sha.h>

#include <array>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "xla/pjrt/proto/compile_options.pb.h"

namespace causeway {
namespace {

// Changes when what workers make of a program does: the same plugin then gives another executable.
constexpr int kKeyVersion = 1;

// The options without the devices that the client has in mind.
std::string WithoutDevices(const std::string& serialized) {
  xla::CompileOptionsProto options;
  if (!options.ParseFromString(serialized)) return serialized;
  xla::ExecutableBuildOptionsProto& build = *options.mutable_executable_build_options();
  build.clear_device_assignment();
  build.clear_device_ordinal();
  // Maps would be written in any order.
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  options.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

}  // namespace

std::string ProgramCache::Key(const proto::Compile& compile, int devices, absl::string_view plugin) {
  const std::string options = WithoutDevices(compile.options());
  // Each part with its length, so that no two lists of parts are the same bytes.
  std::string bytes = absl::StrCat(kKeyVersion, "\n", devices, "\n");
  for (absl::string_view part :
       {plugin, absl::string_view(compile.format()), absl::string_view(options), absl::string_view(compile.code())}) {
    absl::StrAppend(&bytes, part.size(), "\n", part);
  }
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

PortableRef ProgramCache::Find(const std::string& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->program;
}

void ProgramCache::Keep(const std::string& key, PortableRef program) {
  const auto bytes = static_cast<int64_t>(program->ByteSizeLong());
  if (bytes > max_bytes_ || by_key_.contains(key)) return;
  entries_.push_front({key, std::move(program), bytes});
  by_key_[key] = entries_.begin();
  bytes_ += bytes;
  while (bytes_ > max_bytes_) {
    bytes_ -= entries_.back().bytes;
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

void ProgramCache::Remove(const std::string& key) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return;
  bytes_ -= found->second->bytes;
  entries_.erase(found->second);
  by_key_.erase(found);
}

}  // namespace causeway
