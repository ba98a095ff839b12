// Rectangles of arrays, moved between shardings byte by byte: what copy plans and byte runs must come to, the slow way.
#ifndef CAUSEWAY_SIM_REGIONS_H_
#define CAUSEWAY_SIM_REGIONS_H_

#include <string>
#include <vector>

#include "controller/events.h"
#include "sim/contents.h"

namespace causeway::sim {

// What the shards hold when an array of `spec`, whose shards hold `held`, is laid out as `target` says. Shards that are
// null are not there, and neither is what needs them. Where several shards are the same part they hold the same.
std::vector<ContentsRef> Reshard(const ArraySpec& spec, const std::vector<ContentsRef>& held, const Sharding& target);

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_REGIONS_H_
