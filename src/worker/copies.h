// Copies between arrays: pieces of shards that are here go to shards that are made here or on other workers.
//
// A whole shard that stays on this worker is copied by the device runtime. All else goes through host memory: a source
// is read once for all pieces that one message takes of it; a target is put together from its pieces, wherever they
// come from, and made when the last is there. What goes wrong with a source reaches the target as its error, on other
// workers too.
//
// Threading: none of its own, as all of the core.
#ifndef CAUSEWAY_WORKER_COPIES_H_
#define CAUSEWAY_WORKER_COPIES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/ids.h"
#include "proto/control.pb.h"
#include "worker/context.h"
#include "worker/makes.h"
#include "worker/reads.h"
#include "worker/stream_table.h"

namespace causeway::worker {

class Copies {
 public:
  Copies(Context& context, Makes& makes, Reads& reads, StreamTable& streams)
      : context_(context), makes_(makes), reads_(reads), streams_(streams) {}

  // Answered by one ArrayDone if the message has anything to make.
  void Copy(const proto::Copy& message);

  void OnPieceCopied(const PieceCopied& event);

  // What is still to come for these arrays will not be taken; their shards fail.
  void Fail(ArrayId array, const absl::Status& why);
  void DropSession(SessionId session, const absl::Status& why);
  void DropAll(const absl::Status& why);

  // Shards that are being put together, and copies of pieces.
  int64_t size() const { return static_cast<int64_t>(targets_.size() + pieces_.size()); }

 private:
  enum class TargetKey : uint64_t {};

  // A shard that is being put together.
  struct Target {
    ArrayId array;
    BufferRef buffer;
    HostShape shape;
    std::string memory_kind;
    HostRef host;      // null where the device runtime copies
    BufferRef source;  // what it copies, until it has been told to
    int missing = 0;   // pieces
    std::vector<StreamKey> streams;
  };

  // A copy within host memory, from the one to the other.
  struct Piece {
    TargetKey target;
    HostRef source;
  };

  using TargetsByShard = std::map<int, TargetKey>;
  using PartUser = std::function<void(const absl::StatusOr<HostShard>&)>;

  // The sources that one message reads, each with all that is to be done with it.
  using SourceReads = std::map<std::pair<ArrayId, int>, std::vector<PartUser>>;

  TargetsByShard BeginTargets(const proto::Copy& message);
  absl::Status BeginTarget(const proto::Copy& message, const proto::Copy::Made& made, Target& target);
  void AddPart(const proto::Copy& message, const proto::Copy::Part& part, const TargetsByShard& targets,
               SourceReads& reads);
  void ReceivePart(TargetKey key, const proto::Copy::Part& part);
  // `peer_life` is that of the receiver when it was asked to receive.
  void SendPart(SessionId session, const proto::Copy::Part& part, uint64_t peer_life,
                const absl::StatusOr<HostShard>& source);
  void PlacePart(TargetKey key, const proto::Copy::Part& part, const absl::StatusOr<HostShard>& source);
  void CopyWhole(TargetKey key, const proto::Copy::Part& part);
  void OnSourcePlaced(TargetKey key);
  void StartRead(SessionId session, ArrayId array, int shard, std::vector<PartUser> users);

  void PartDone(TargetKey key, const absl::Status& status);
  void FailTarget(TargetKey key, const absl::Status& why);
  void FailIf(const std::function<bool(const Target&)>& condition, const absl::Status& why);

  Context& context_;
  Makes& makes_;
  Reads& reads_;
  StreamTable& streams_;
  uint64_t last_key_ = 0;
  std::map<TargetKey, Target> targets_;
  absl::flat_hash_map<PieceKey, Piece> pieces_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_COPIES_H_
