// Plans how the shards of a new array are made from the shards of an old one: which piece of which source shard goes to
// which place of which target shard, and between which workers.
//
//   CopyPlan plan = PlanReshard(source_spec, target_sharding, cluster, next_stream);
//   for (auto& [worker, message] : plan.messages) Send(worker, message);
//
// Where several devices hold the same piece, the nearest is taken: the target's own device, then its worker, then its
// island; among equals the targets take turns, so that one source does not serve them all.
//
// Cost: O(target shards * distinct source pieces).
#ifndef CAUSEWAY_CONTROLLER_COPY_PLAN_H_
#define CAUSEWAY_CONTROLLER_COPY_PLAN_H_

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "controller/cluster.h"
#include "controller/events.h"

namespace causeway {

struct CopyPlan {
  // What each worker is told. Array names of source and target are filled in.
  std::map<WorkerId, proto::Copy> messages;
  std::vector<WorkerId> makers;   // workers that make shards, and will report
  std::vector<WorkerId> senders;  // workers that hold pieces of the source
};

// Shard i of the target is shard i of the source, on the target's i-th device. The shardings have equally many shards.
CopyPlan PlanCopy(ArrayId source, const ArraySpec& source_spec, ArrayId target, const Sharding& target_sharding,
                  const Cluster& cluster, const std::function<StreamId()>& next_stream);

// The target has the same contents in another sharding, of the same rank.
CopyPlan PlanReshard(ArrayId source, const ArraySpec& source_spec, ArrayId target, const Sharding& target_sharding,
                     const Cluster& cluster, const std::function<StreamId()>& next_stream);

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_COPY_PLAN_H_
