// Programs that gangs have compiled, by what they were compiled from: so that one worker compiles for all, and no later
// session waits for what an earlier one had compiled. The least recently used go first.
//
//   ProgramCache cache(256 << 20);
//   const std::string key = ProgramCache::Key(compile, /*devices=*/8, plugin);
//   if (auto found = cache.Find(key)) ...
//   cache.Keep(key, portable);
//
// What was compiled depends on the program, its options and the plugin, not on which devices the client has in mind: so
// those are no part of the key.
//
// Threading: none of its own; lives in the controller core.
#ifndef CAUSEWAY_CONTROLLER_PROGRAM_CACHE_H_
#define CAUSEWAY_CONTROLLER_PROGRAM_CACHE_H_

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "proto/control.pb.h"

namespace causeway {

using PortableRef = std::shared_ptr<const proto::PortableProgram>;

class ProgramCache {
 public:
  explicit ProgramCache(int64_t max_bytes) : max_bytes_(max_bytes) {}

  // The SHA-256, in hexadecimal digits, of all that decides what comes out of the compiler.
  static std::string Key(const proto::Compile& compile, int devices, absl::string_view plugin);

  // Null: not there.
  PortableRef Find(const std::string& key);

  // A program that is larger than the whole cache is not kept.
  void Keep(const std::string& key, PortableRef program);

  void Remove(const std::string& key);

  int64_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::string key;
    PortableRef program;
    int64_t bytes;
  };

  const int64_t max_bytes_;
  int64_t bytes_ = 0;
  std::list<Entry> entries_;  // most recently used first
  absl::flat_hash_map<std::string, std::list<Entry>::iterator> by_key_;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_PROGRAM_CACHE_H_
