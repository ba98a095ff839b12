// What the workers of one launch send one another: parts, each named by its instance, round, index and the other
// worker, and of a size that both sides know. Small ones travel as one message, at once; large ones by a stream that
// the receiver asks for when it knows where the bytes belong.
//
//   parts->Expect(id, into, bytes, owner, slot);    // receiver
//   parts->Send(id, from, bytes, owner, slot);      // sender; whichever comes first
//
// Between workers of one machine a large part does not travel at all: the sender says where it lies, and the receiver
// copies it out of the other's memory (process_vm_readv, memory.h). Where the system does not allow that, which is
// found out by trying, it goes by a stream after all.
//
// Whatever happens, each Expect and each Send ends with exactly one call of its owner, at once or later. After Close,
// that is PartFailed, and when it is called nothing touches the memory any more.
//
// Threading: thread-safe. Owners are called on the caller's thread or the plane's, never under a lock.
// Lifetime: held by its streams until they have ended. The plane outlives those.
#ifndef CAUSEWAY_COLLECTIVES_PARTS_H_
#define CAUSEWAY_COLLECTIVES_PARTS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/ids.h"
#include "base/mutex.h"
#include "collectives/engine.h"
#include "collectives/layout.h"
#include "collectives/pieces.h"
#include "collectives/pool.h"
#include "collectives/scratch.h"
#include "collectives/wire.h"
#include "net/data_plane.h"

namespace causeway::collectives {

struct PartId {
  InstanceId instance;
  uint32_t round = 0;
  uint32_t index = 0;
  WorkerId peer{-1};

  friend bool operator==(const PartId& a, const PartId& b) {
    return a.instance == b.instance && a.round == b.round && a.index == b.index && a.peer == b.peer;
  }
  template <typename H>
  friend H AbslHashValue(H h, const PartId& id) {
    return H::combine(std::move(h), id.instance, id.round, id.index, Raw(id.peer));
  }
};

// Who waits for parts. `slot` is what it gave with them.
class PartOwner {
 public:
  virtual ~PartOwner() = default;
  // It came as a message: `bytes` are only there during the call.
  virtual void PartCame(uint64_t slot, absl::Span<const char> bytes) = 0;
  // It came by a stream and lies where it was to.
  virtual void PartInPlace(uint64_t slot) = 0;
  virtual void PartSent(uint64_t slot) = 0;
  virtual void PartFailed(const absl::Status& why) = 0;
};

// Room for what comes before anybody waits for it, by peer.
class EarlyRoom {
 public:
  EarlyRoom(int64_t max_bytes, int64_t max_count) : max_bytes_(max_bytes), max_count_(max_count) {}

  // False: there is none left for this peer.
  bool Take(WorkerId peer, int64_t bytes);
  void Give(WorkerId peer, int64_t bytes);

 private:
  struct Taken {
    int64_t bytes = 0;
    int64_t count = 0;
  };

  const int64_t max_bytes_;
  const int64_t max_count_;
  Mutex mu_;
  absl::flat_hash_map<WorkerId, Taken> taken_ ABSL_GUARDED_BY(mu_);
};

// What all launches of an engine have in common.
struct Shared {
  Shared(DataPlane& plane_in, const EngineOptions& options_in)
      : plane(plane_in),
        options(options_in),
        early(options_in.max_early_bytes, options_in.max_early_count),
        scratch(kKeptScratch),
        pool(options_in.pool_threads),
        reads_near(options_in.shared_memory) {}

  static constexpr int64_t kKeptScratch = 128 << 20;

  DataPlane& plane;
  const EngineOptions options;
  EarlyRoom early;
  LayoutCache layouts;
  Scratch scratch;
  Pool pool;
  std::atomic<uint64_t> next_stream{0};
  std::atomic<bool> reads_near;  // until the system refuses it
};

class Parts : public std::enable_shared_from_this<Parts> {
 public:
  Parts(std::shared_ptr<Shared> shared, uint64_t launch, std::shared_ptr<const GangInfo> gang)
      : shared_(std::move(shared)), launch_(launch), gang_(std::move(gang)) {}
  virtual ~Parts();

  // Bytes of 1 and more. The memory of `from` stays as it is until the owner is called.
  void Send(const PartId& id, const Pieces& from, int64_t bytes, std::shared_ptr<PartOwner> owner, uint64_t slot);

  // `into` is where a stream puts the bytes; a message is given to the owner instead.
  void Expect(const PartId& id, const Pieces& into, int64_t bytes, std::shared_ptr<PartOwner> owner, uint64_t slot);

  // One that always comes as a message, of a size that only its sender knows.
  void ExpectMessage(const PartId& id, std::shared_ptr<PartOwner> owner, uint64_t slot);

  // From a peer of the gang.
  void OnPart(const PartId& id, absl::Span<const char> bytes);
  void OnWant(const PartId& id, int64_t bytes, StreamId stream);
  void OnLook(const PartId& id, int64_t bytes) { OnWant(id, bytes, kLook); }
  void OnHere(const PartId& id, int64_t bytes, int process, absl::Span<const char> stretches);
  void OnTaken(const PartId& id);

  // Fails what is under way and what comes later. Only the first one counts.
  void Close(const absl::Status& why);

  // The launch cannot go on. Called without locks.
  virtual void Fail(const absl::Status& why) = 0;

  // For messages. Called under a lock of this.
  virtual std::string NameOf(uint32_t collective) = 0;

  bool ByMessage(int64_t bytes) const { return bytes <= shared_->options.message_bytes; }
  Traffic traffic() const { return {worker_bytes_.load(), island_bytes_.load()}; }
  Shared& shared() const { return *shared_; }
  uint64_t launch() const { return launch_; }
  const GangInfo& gang() const { return *gang_; }

 protected:
  const std::shared_ptr<const GangInfo>& gang_info() const { return gang_; }

 private:
  class Sink;
  class Source;
  struct Expected {
    std::shared_ptr<PartOwner> owner;
    uint64_t slot = 0;
    int64_t bytes = 0;  // -1: any number
    bool by_stream = false;
  };
  struct Pending {
    std::shared_ptr<PartOwner> owner;
    uint64_t slot = 0;
    int64_t bytes = 0;
    Pieces from;
    std::shared_ptr<char[]> gathered = nullptr;  // where `from` is a copy
  };
  // In place of a stream: the receiver wants to read the part where it lies.
  static constexpr StreamId kLook{0};
  struct Want {
    int64_t bytes = 0;
    StreamId stream{0};
  };
  // A part that this worker is to read in another's memory.
  struct Near {
    std::shared_ptr<PartOwner> owner;
    uint64_t slot = 0;
    int64_t bytes = 0;
    Pieces into;
  };
  using StreamKey = std::pair<WorkerId, StreamId>;

  void ExpectMessage(const PartId& id, Expected expected);
  void ExpectStream(const PartId& id, const Pieces& into, int64_t bytes, std::shared_ptr<PartOwner> owner,
                    uint64_t slot);
  void ExpectNear(const PartId& id, const Pieces& into, int64_t bytes, std::shared_ptr<PartOwner> owner, uint64_t slot);
  void ReadNear(const PartId& id, Near near, int process, const std::string& stretches);
  void SendHere(const PartId& id, Pending pending);
  void Say(MessageType type, const PartId& id, uint64_t length, uint64_t value, absl::Span<const char> payload = {});
  void SendMessage(const PartId& id, const Pieces& from, int64_t bytes);
  void StartSend(const PartId& id, Pending pending, StreamId stream);
  void Deliver(const PartId& id, const Expected& expected, absl::Span<const char> bytes);
  void StreamEnded(const StreamKey& key, const PartId* expected);
  absl::Status StreamFailed(WorkerId peer, const absl::Status& why);
  // Returns what the launch has failed with: this, or what came first.
  absl::Status FailWith(const absl::Status& why);
  void CancelIfClosed(const StreamKey& key);
  absl::Status Misfit(const PartId& id, int64_t came, int64_t wanted);
  void Count(WorkerId to, int64_t bytes);
  StreamId NewStream(WorkerId peer);

  const std::shared_ptr<Shared> shared_;
  const uint64_t launch_;
  const std::shared_ptr<const GangInfo> gang_;
  std::atomic<int64_t> worker_bytes_{0};
  std::atomic<int64_t> island_bytes_{0};
  std::atomic<bool> closed_{false};  // as !status_.ok(), for looking without the lock

  Mutex mu_;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<PartId, Expected> expected_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<PartId, std::string> early_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<PartId, Pending> pending_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<PartId, Want> wanted_ ABSL_GUARDED_BY(mu_);
  absl::flat_hash_map<PartId, Near> near_ ABSL_GUARDED_BY(mu_);        // where it lies is still to be said
  absl::flat_hash_map<PartId, Pending> offered_ ABSL_GUARDED_BY(mu_);  // others read them
  absl::flat_hash_set<StreamKey> streams_ ABSL_GUARDED_BY(mu_);
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_PARTS_H_
