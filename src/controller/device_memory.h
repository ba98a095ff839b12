// The accounts of the devices' memory: what the arrays of each session take on each device, exact to the byte, and
// whether more fits.
//
//   DeviceMemory::Account& account = memory.OpenSession(id, "train.py");
//   DeviceMemory::Claim x = memory.Plan(account, placement, bytes_on_each_device);   // an output: not there yet
//   memory.Commit({x});                                                              // its launch was handed over
//   DeviceMemory::Claim y = x;                                                       // another name for the same
//   x = {};                                                                          // still there
//   y = {};                                                                          // gone: counted no more
//
// What is made at once is one *block*: so many bytes on each device of a placement, in one step of RangeAccounts
// whatever their number. A block goes with the last claim on it. Only where names come to share single shards (Alias),
// or where shards are lost one by one, it is split into blocks of one device each.
//
// This is what has a name. Workers hold a buffer until its last use as well, and take temporary memory for launches
// that run; what is to be kept free for that is Reserve()d. Memory of other kinds than a device's own (pinned_host) is
// counted apart, against no limit.
//
// Threading: none of its own; lives in the controller core, and outlives all claims. Cost: Plan, Commit, Fits and the
// end of a block O(log devices) for a placement of neighbours (and for each further range of one that is not).
#ifndef CAUSEWAY_CONTROLLER_DEVICE_MEMORY_H_
#define CAUSEWAY_CONTROLLER_DEVICE_MEMORY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/ids.h"
#include "controller/range_accounts.h"

namespace causeway {

struct Placement;  // cluster.h

class DeviceMemory {
 public:
  // A device's own memory, or any other that it reaches.
  enum class Space : uint8_t { kDevice, kElsewhere };

  // What a session has claimed.
  class Account {
   public:
    SessionId id() const { return id_; }
    const std::string& name() const { return name_; }
    int64_t cap() const { return cap_; }
    int64_t On(DeviceId device) const { return Raw(device) < used_.size() ? used_.At(Raw(device)) : 0; }
    int64_t PeakOn(DeviceId device) const { return Raw(device) < used_.size() ? used_.Peak(Raw(device)) : 0; }

   private:
    friend class DeviceMemory;
    SessionId id_{0};
    std::string name_;
    int64_t cap_ = 0;
    RangeAccounts used_;
    int64_t blocks_ = 0;
    bool closed_ = false;
  };

 private:
  struct Block;

 public:
  // Copies are further names of the same block. Empty: claims nothing.
  class Claim {
   public:
    Claim() = default;
    Claim(const Claim& other);
    Claim(Claim&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
    Claim& operator=(Claim other) noexcept {
      std::swap(block_, other.block_);
      return *this;
    }
    ~Claim();

    bool empty() const { return block_ == nullptr; }

   private:
    friend class DeviceMemory;
    explicit Claim(Block* block);
    Block* block_ = nullptr;
  };

  // Whoever makes what is in a block: knows it by this, without keeping it.
  class Watch {
   public:
    Watch() = default;
    Watch(const Claim& claim);  // NOLINT(google-explicit-constructor): lists of watches are written as claims
    Watch(const Watch& other);
    Watch(Watch&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
    Watch& operator=(Watch other) noexcept {
      std::swap(block_, other.block_);
      return *this;
    }
    ~Watch();

    // Whether anybody has a name for it, or for a part of it.
    bool is_named() const;

   private:
    friend class DeviceMemory;
    Block* block_ = nullptr;
  };

  // Memory that has no name, on each device of a placement, until this goes.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(DeviceMemory& memory, std::shared_ptr<const Placement> placement, int64_t bytes)
        : memory_(&memory), placement_(std::move(placement)), bytes_(bytes) {
      memory_->Reserve(*placement_, bytes_);
    }
    Reservation(Reservation&& other) noexcept
        : memory_(std::exchange(other.memory_, nullptr)),
          placement_(std::move(other.placement_)),
          bytes_(other.bytes_) {}
    Reservation& operator=(Reservation other) noexcept {
      std::swap(memory_, other.memory_);
      std::swap(placement_, other.placement_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Reservation() {
      if (memory_ != nullptr) memory_->Release(*placement_, bytes_);
    }

   private:
    DeviceMemory* memory_ = nullptr;
    std::shared_ptr<const Placement> placement_;
    int64_t bytes_ = 0;
  };

  // On each device.
  struct Need {
    int64_t arrays = 0;
    int64_t temp = 0;  // while it runs
  };

  // Of a device.
  struct Use {
    int64_t bytes = 0;  // in its own memory
    int64_t peak = 0;
    int64_t limit = 0;                                         // 0: none
    int64_t elsewhere = 0;                                     // in other memories
    std::vector<std::pair<const Account*, int64_t>> sessions;  // in its own memory; the largest first
  };

  // Whether what other sessions hold is expected to go.
  enum class Others { kMayFree, kStay };

  DeviceMemory() = default;
  ~DeviceMemory() = default;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Of each device, by its id; 0: none. Devices are only ever added.
  void SetLimits(absl::Span<const int64_t> limits);

  int devices() const { return used_.size(); }

  // `cap`: what its arrays may take on each device; 0: all. Valid until CloseSession and the end of the last claim.
  Account& OpenSession(SessionId id, std::string name, int64_t cap = 0);
  void CloseSession(SessionId id);

  // Memory for an array, of so many bytes on each device. Not counted before Commit.
  Claim Plan(Account& account, std::shared_ptr<const Placement> placement, int64_t bytes, Space space = Space::kDevice);
  void Commit(absl::Span<const Watch> blocks);

  // The same, for each device in the order of the placement (one number for all: the same on each).
  Claim Plan(Account& account, std::shared_ptr<const Placement> placement, absl::Span<const int64_t> bytes,
             Space space = Space::kDevice);

  // And counted at once.
  Claim Add(Account& account, std::shared_ptr<const Placement> placement, absl::Span<const int64_t> bytes,
            Space space = Space::kDevice);

  // An array of shards that others have: of each the `shard`-th of `claim`.
  struct Shard {
    const Claim* claim;
    int shard = 0;
  };
  Claim Alias(absl::Span<const Shard> shards);

  // The memory is gone, whoever has names for it: taken by a launch, or never filled. On all its devices, or on those
  // of [first, last).
  void Evict(const Watch& block);
  void Evict(const Watch& block, DeviceId first, DeviceId last);

  // It takes so much on each device, as it turns out.
  void Resize(const Watch& block, int64_t bytes);

  // Whether there is any limit for it.
  bool IsLimited(const Account& account) const { return limited_ > 0 || account.cap_ > 0; }

  // Whether so much more can be claimed now.
  bool Fits(const Account& account, const Placement& placement, const Need& need) const;

  // For what takes memory without having a name.
  void Reserve(const Placement& placement, int64_t bytes);
  void Release(const Placement& placement, int64_t bytes) {
    freed_ = true;
    Reserve(placement, -bytes);
  }

  // Whether anything may fit that did not, since this was last asked.
  bool TakeFreed() { return std::exchange(freed_, false); }
  bool has_freed() const { return freed_; }

  // RESOURCE_EXHAUSTED, with who holds what and the cure, where `need` for `what` does not fit beside `kept` (on each
  // device, of the same session and needed with it) even when all else that may go is gone.
  absl::Status NeverFits(const Account& account, const Placement& placement, const Need& need, int64_t kept,
                         absl::string_view what, Others others = Others::kMayFree) const;

  // What keeps `need` for `what` from fitting now: sizes and holders, on the first device where it does not.
  std::string WhyNot(const Account& account, const Placement& placement, const Need& need,
                     absl::string_view what) const;

  // What arrays on `placement` take there, each buffer counted once: on that of its devices where this is least.
  static int64_t Kept(const Placement& placement, absl::Span<const Claim* const> claims);

  Use Of(DeviceId device) const;

 private:
  void Count(const Block& block, int64_t amount);
  Block* NewBlock(Account* account, Space space);
  static void Split(Block& block);
  void Evict(Block& block, int first, int last);
  void CommitParts(Block& block);
  void Unclaim(Block* block);
  static void Unwatch(Block* block);
  std::string Holders(DeviceId device) const;

  std::vector<int64_t> limits_;  // by DeviceId
  int limited_ = 0;              // of the devices, so many have one
  RangeAccounts used_;
  RangeAccounts pressure_;  // used and reserved, less the limit
  RangeAccounts elsewhere_;
  std::map<SessionId, std::unique_ptr<Account>> accounts_;
  std::vector<std::unique_ptr<Account>> closed_;  // that still have blocks
  bool freed_ = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_DEVICE_MEMORY_H_
