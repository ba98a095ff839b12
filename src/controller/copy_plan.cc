#include "controller/copy_plan.h"

#include <algorithm>
#include <set>
#include <utility>

namespace causeway {
namespace {

void FillBox(const Box& box, const Box& within, proto::Box& out) {
  for (size_t i = 0; i < box.start.size(); ++i) {
    out.add_start(box.start[i] - within.start[i]);
    out.add_size(box.size[i]);
  }
}

class Planner {
 public:
  Planner(ArrayId source, const ArraySpec& spec, ArrayId target, const Sharding& target_sharding,
          const Cluster& cluster, const std::function<StreamId()>& next_stream)
      : source_(source),
        spec_(spec),
        target_(target),
        sharding_(target_sharding),
        cluster_(cluster),
        next_stream_(next_stream) {}

  // Begins target shard `shard`, made of `part_count` pieces.
  void Make(int shard, const Box& box, int part_count) {
    const Cluster::Place& place = *cluster_.Find(sharding_.devices()[shard]);
    proto::Copy::Made* made = MessageFor(place.worker).add_made();
    made->mutable_shard()->set_index(shard);
    made->mutable_shard()->set_device(place.local_index);
    for (int64_t d : box.size) made->add_dims(d);
    made->set_part_count(part_count);
    makers_.insert(place.worker);
  }

  // One piece: `piece` of the whole array, from source shard `from` to target shard `to`.
  void Move(int from, const Box& from_box, int to, const Box& to_box, const Box& piece) {
    const WorkerId sender = cluster_.Find(spec_.sharding->devices()[from])->worker;
    const WorkerId maker = cluster_.Find(sharding_.devices()[to])->worker;
    proto::Copy::Part part;
    part.set_source_array(Raw(source_));
    part.set_source_shard(from);
    part.set_source_worker(Raw(sender));
    if (piece != from_box) FillBox(piece, from_box, *part.mutable_source_box());
    part.set_target_shard(to);
    part.set_target_worker(Raw(maker));
    if (piece != to_box) FillBox(piece, to_box, *part.mutable_target_box());
    part.set_bytes(piece.NumElements() * HostByteWidth(spec_.dtype));
    if (sender != maker) {
      part.set_stream(Raw(next_stream_()));
      *MessageFor(sender).add_parts() = part;
    }
    *MessageFor(maker).add_parts() = std::move(part);
    senders_.insert(sender);
  }

  CopyPlan Finish() && {
    plan_.makers.assign(makers_.begin(), makers_.end());
    plan_.senders.assign(senders_.begin(), senders_.end());
    return std::move(plan_);
  }

 private:
  proto::Copy& MessageFor(WorkerId worker) {
    const auto [entry, fresh] = plan_.messages.try_emplace(worker);
    if (fresh) {
      entry->second.set_array(Raw(target_));
      entry->second.mutable_type()->set_dtype(static_cast<int32_t>(spec_.dtype));
      entry->second.set_memory_kind(sharding_.memory_kind());
    }
    return entry->second;
  }

  const ArrayId source_;
  const ArraySpec& spec_;
  const ArrayId target_;
  const Sharding& sharding_;
  const Cluster& cluster_;
  const std::function<StreamId()>& next_stream_;
  CopyPlan plan_;
  std::set<WorkerId> makers_;
  std::set<WorkerId> senders_;
};

// A part of the array and the source shards that hold it.
struct Piece {
  Box box;
  std::vector<int> holders;
};

std::vector<Piece> DistinctPieces(const ArraySpec& spec) {
  std::vector<Piece> pieces;
  std::map<std::vector<int64_t>, size_t> by_start;
  for (int i = 0; i < spec.sharding->num_shards(); ++i) {
    Box box = spec.sharding->ShardBox(spec.dims, i);
    const auto [entry, fresh] = by_start.try_emplace(box.start, pieces.size());
    if (fresh) pieces.push_back(Piece{std::move(box), {}});
    pieces[entry->second].holders.push_back(i);
  }
  return pieces;
}

int Nearest(const Piece& piece, const ArraySpec& spec, DeviceId target, int turn, const Cluster& cluster) {
  const WorkerSlot& near = cluster.slot(cluster.Find(target)->worker);
  const auto distance = [&](int shard) {
    const DeviceId device = spec.sharding->devices()[shard];
    if (device == target) return 0;
    const WorkerSlot& slot = cluster.slot(cluster.Find(device)->worker);
    if (slot.id == near.id) return 1;
    return slot.hello.island() == near.hello.island() ? 2 : 3;
  };
  int nearest = 4;
  std::vector<int> candidates;
  for (int shard : piece.holders) {
    const int d = distance(shard);
    if (d < nearest) candidates.clear();
    if (d <= nearest) candidates.push_back(shard);
    nearest = std::min(nearest, d);
  }
  return candidates[turn % candidates.size()];
}

}  // namespace

CopyPlan PlanCopy(ArrayId source, const ArraySpec& source_spec, ArrayId target, const Sharding& target_sharding,
                  const Cluster& cluster, const std::function<StreamId()>& next_stream) {
  Planner planner(source, source_spec, target, target_sharding, cluster, next_stream);
  for (int i = 0; i < target_sharding.num_shards(); ++i) {
    const Box box = source_spec.sharding->ShardBox(source_spec.dims, i);
    planner.Make(i, box, 1);
    planner.Move(i, box, i, box, box);
  }
  return std::move(planner).Finish();
}

CopyPlan PlanReshard(ArrayId source, const ArraySpec& source_spec, ArrayId target, const Sharding& target_sharding,
                     const Cluster& cluster, const std::function<StreamId()>& next_stream) {
  Planner planner(source, source_spec, target, target_sharding, cluster, next_stream);
  const std::vector<Piece> pieces = DistinctPieces(source_spec);
  for (int to = 0; to < target_sharding.num_shards(); ++to) {
    const Box target_box = target_sharding.ShardBox(source_spec.dims, to);
    std::vector<std::pair<const Piece*, Box>> meeting;
    for (const Piece& piece : pieces) {
      Box both = Intersect(piece.box, target_box);
      if (both.NumElements() > 0) meeting.emplace_back(&piece, std::move(both));
    }
    planner.Make(to, target_box, static_cast<int>(meeting.size()));
    for (const auto& [piece, both] : meeting) {
      const int from = Nearest(*piece, source_spec, target_sharding.devices()[to], to, cluster);
      planner.Move(from, piece->box, to, target_box, both);
    }
  }
  return std::move(planner).Finish();
}

}  // namespace causeway
