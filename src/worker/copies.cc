#include "worker/copies.h"

#include <iterator>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/dtype.h"
#include "base/saturate.h"
#include "base/status_macros.h"
#include "worker/shapes.h"

namespace causeway::worker {
namespace {

bool IsWhole(const proto::Box& box) { return box.start_size() == 0 && box.size_size() == 0; }

// The rectangle of a part, which must be as large as the part says.
absl::StatusOr<ByteRuns> RunsOf(const proto::Copy::Part& part, const HostShape& shape, const proto::Box& box) {
  ASSIGN_OR_RETURN(ByteRuns runs, ByteRuns::OfBox(shape.dims, box, HostByteWidth(shape.dtype)));
  if (runs.total_bytes() != part.bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("a piece of array ", part.source_array() & kMaxPerSession, " has ",
                                                   runs.total_bytes(), " bytes, the copy says ", part.bytes()));
  }
  return runs;
}

// What a stream's end means for the shard that waited for it. A connection that broke took the data with it.
absl::Status StreamError(const proto::Copy::Part& part, const absl::Status& status) {
  if (!absl::IsUnavailable(status)) return status;
  return absl::DataLossError(absl::StrCat("worker ", part.source_worker(), " was lost while it sent array ",
                                          part.source_array() & kMaxPerSession, ": ", status.message()));
}

}  // namespace

void Copies::Copy(const proto::Copy& message) {
  const TargetsByShard targets = BeginTargets(message);
  SourceReads reads;
  for (const proto::Copy::Part& part : message.parts()) AddPart(message, part, targets, reads);
  const SessionId session = SessionOf(ArrayId{message.array()});
  for (auto& [source, users] : reads) StartRead(session, source.first, source.second, std::move(users));
}

// ---------------------------------------------------------------- targets

Copies::TargetsByShard Copies::BeginTargets(const proto::Copy& message) {
  TargetsByShard keys;
  std::vector<BufferRef> buffers;
  for (const proto::Copy::Made& made : message.made()) {
    Target target;
    target.array = ArrayId{message.array()};
    target.buffer = makes_.Promise(target.array, made.shard(), message.origin());
    target.memory_kind = message.memory_kind();
    target.missing = made.part_count();
    buffers.push_back(target.buffer);
    if (absl::Status ok = BeginTarget(message, made, target); !ok.ok()) {
      context_.store.Fail(target.buffer, ok);
      continue;
    }
    const TargetKey key{++last_key_};
    keys.emplace(made.shard().index(), key);
    targets_.emplace(key, std::move(target));
    if (made.part_count() == 0) {
      targets_.at(key).missing = 1;
      PartDone(key, absl::OkStatus());
    }
  }
  if (!buffers.empty()) makes_.ReportWhenSettled(ArrayId{message.array()}, std::move(buffers));
  return keys;
}

absl::Status Copies::BeginTarget(const proto::Copy& message, const proto::Copy::Made& made, Target& target) {
  if (target.buffer->failed()) return target.buffer->error();
  ASSIGN_OR_RETURN(target.shape, ShapeFrom(message.type().dtype(), made.dims(), /*byte_strides=*/{}));
  int parts = 0;
  int64_t bytes = 0;
  bool by_runtime = false;
  for (const proto::Copy::Part& part : message.parts()) {
    if (part.target_worker() != Raw(context_.self) || part.target_shard() != made.shard().index()) continue;
    ++parts;
    bytes = SaturatingAdd(bytes, part.bytes());
    by_runtime = part.source_worker() == Raw(context_.self) && IsWhole(part.source_box()) && IsWhole(part.target_box());
  }
  const int64_t needed_bytes = DenseBytes(target.shape.dtype, target.shape.dims);
  if (parts != made.part_count() || bytes != needed_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("a copy names ", parts, " pieces of ", bytes, " bytes for shard ",
                                                   made.shard().index(), ", which has ", made.part_count(),
                                                   " pieces and ", needed_bytes, " bytes"));
  }
  if (parts != 1 || !by_runtime) {
    RETURN_IF_ERROR(context_.hosts.CheckCountable(needed_bytes));
    target.host = context_.hosts.Allocate(needed_bytes);
  }
  return absl::OkStatus();
}

void Copies::PartDone(TargetKey key, const absl::Status& status) {
  if (!status.ok()) return FailTarget(key, status);
  const auto found = targets_.find(key);
  if (found == targets_.end() || --found->second.missing > 0) return;
  const Target target = std::move(found->second);
  targets_.erase(found);
  makes_.FromHost(target.buffer, target.host, target.shape, target.memory_kind, /*layout=*/"");
}

void Copies::FailTarget(TargetKey key, const absl::Status& why) {
  const auto found = targets_.find(key);
  if (found == targets_.end()) return;
  const Target target = std::move(found->second);
  targets_.erase(found);
  if (target.source != nullptr) context_.store.EndRead(target.source);
  for (StreamKey stream : target.streams) streams_.Cancel(stream, why);
  context_.store.Fail(target.buffer, why);
}

void Copies::Fail(ArrayId array, const absl::Status& why) {
  FailIf([array](const Target& target) { return target.array == array; }, why);
}

void Copies::DropSession(SessionId session, const absl::Status& why) {
  FailIf([session](const Target& target) { return SessionOf(target.array) == session; }, why);
}

void Copies::DropAll(const absl::Status& why) {
  FailIf([](const Target&) { return true; }, why);
}

void Copies::FailIf(const std::function<bool(const Target&)>& condition, const absl::Status& why) {
  for (auto target = targets_.begin(); target != targets_.end();) {
    const auto next = std::next(target);
    if (condition(target->second)) FailTarget(target->first, why);
    target = next;
  }
}

// ---------------------------------------------------------------- parts

void Copies::AddPart(const proto::Copy& message, const proto::Copy::Part& part, const TargetsByShard& targets,
                     SourceReads& reads) {
  const bool from_here = part.source_worker() == Raw(context_.self);
  const bool to_here = part.target_worker() == Raw(context_.self);
  std::vector<PartUser>* users = nullptr;
  if (from_here) users = &reads[{ArrayId{part.source_array()}, part.source_shard()}];
  if (from_here && !to_here) {
    const SessionId session = SessionOf(ArrayId{message.array()});
    const uint64_t life = context_.PeerLife(PeerOf(WorkerId{part.target_worker()}));
    users->push_back([this, session, part, life](const absl::StatusOr<HostShard>& source) {
      SendPart(session, part, life, source);
    });
    return;
  }
  if (!to_here) return;
  const auto target = targets.find(part.target_shard());
  if (target == targets.end()) {
    if (!from_here) {
      context_.out->RefuseToReceive(PeerOf(WorkerId{part.source_worker()}), StreamId{part.stream()}, part.bytes(),
                                    absl::InvalidArgumentError("the shard that this is a piece of is not made"));
    }
    return;
  }
  const TargetKey key = target->second;
  if (!from_here) return ReceivePart(key, part);
  const auto found = targets_.find(key);
  if (found == targets_.end()) return;
  if (found->second.host == nullptr) return CopyWhole(key, part);
  users->push_back([this, key, part](const absl::StatusOr<HostShard>& source) { PlacePart(key, part, source); });
}

void Copies::ReceivePart(TargetKey key, const proto::Copy::Part& part) {
  const PeerId peer = PeerOf(WorkerId{part.source_worker()});
  const auto found = targets_.find(key);
  if (found == targets_.end()) {
    context_.out->RefuseToReceive(peer, StreamId{part.stream()}, part.bytes(),
                                  absl::CancelledError("another piece of the same shard is wrong"));
    return;
  }
  Target& target = found->second;
  const absl::StatusOr<ByteRuns> place = RunsOf(part, target.shape, part.target_box());
  if (!place.ok()) {
    context_.out->RefuseToReceive(peer, StreamId{part.stream()}, part.bytes(), place.status());
    return FailTarget(key, place.status());
  }
  target.streams.push_back(
      streams_.Receive(SessionOf(target.array), peer, StreamId{part.stream()}, target.host, *place,
                       [this, key, part](const absl::Status& status) { PartDone(key, StreamError(part, status)); }));
}

void Copies::CopyWhole(TargetKey key, const proto::Copy::Part& part) {
  absl::StatusOr<BufferRef> source = context_.store.Find(ArrayId{part.source_array()}, part.source_shard());
  if (!source.ok()) return FailTarget(key, source.status());
  context_.store.BeginRead(*source);
  context_.store.WhenPlaced(*source, [this, key](bool) { OnSourcePlaced(key); });
  targets_.at(key).source = *std::move(source);
}

void Copies::OnSourcePlaced(TargetKey key) {
  const auto found = targets_.find(key);
  if (found == targets_.end()) return;
  if (found->second.source->failed()) return FailTarget(key, absl::Status(found->second.source->error()));
  const Target target = std::move(found->second);
  targets_.erase(found);
  makes_.FromBuffer(target.buffer, target.source, target.memory_kind);
  context_.store.EndRead(target.source);
}

void Copies::StartRead(SessionId session, ArrayId array, int shard, std::vector<PartUser> users) {
  if (users.empty()) return;
  absl::StatusOr<BufferRef> source = context_.store.Find(array, shard);
  if (!source.ok()) {
    for (const PartUser& user : users) user(source.status());
    return;
  }
  reads_.Start(session, *std::move(source), /*byte_strides=*/{}, Pool::kSend,
               [users = std::move(users)](const absl::StatusOr<HostShard>& shard) {
                 for (const PartUser& user : users) user(shard);
               });
}

void Copies::SendPart(SessionId session, const proto::Copy::Part& part, uint64_t peer_life,
                      const absl::StatusOr<HostShard>& source) {
  const PeerId peer = PeerOf(WorkerId{part.target_worker()});
  // The shard that this is a piece of went with the worker; the one that returned does not wait for it.
  if (context_.PeerLife(peer) != peer_life) return;
  const StreamId id{part.stream()};
  if (!source.ok()) return context_.out->RefuseToSend(peer, id, part.bytes(), source.status());
  const absl::StatusOr<ByteRuns> runs = RunsOf(part, source->shape, part.source_box());
  if (!runs.ok()) return context_.out->RefuseToSend(peer, id, part.bytes(), runs.status());
  streams_.Send(session, peer, id, source->host, *runs, /*done=*/nullptr);
}

void Copies::PlacePart(TargetKey key, const proto::Copy::Part& part, const absl::StatusOr<HostShard>& source) {
  const auto found = targets_.find(key);
  if (found == targets_.end()) return;
  if (!source.ok()) return FailTarget(key, source.status());
  const absl::StatusOr<ByteRuns> from = RunsOf(part, source->shape, part.source_box());
  const absl::StatusOr<ByteRuns> to = RunsOf(part, found->second.shape, part.target_box());
  if (!from.ok()) return FailTarget(key, from.status());
  if (!to.ok()) return FailTarget(key, to.status());
  const PieceKey piece{++last_key_};
  pieces_.emplace(piece, Piece{key, source->host});
  context_.out->CopyPiece(piece, source->host->key(), *from, found->second.host->key(), *to);
}

void Copies::OnPieceCopied(const PieceCopied& event) {
  const auto found = pieces_.find(event.piece);
  if (found == pieces_.end()) return;
  const TargetKey target = found->second.target;
  pieces_.erase(found);
  PartDone(target, event.status);
}

}  // namespace causeway::worker
