// What one run of a program costs, counted in its optimised HLO as XLA's own analysis does, for plugins that have none.
//
//   std::map<std::string, double> cost = EstimateCost(module);   // {"flops": 4096, "transcendentals": 0, ...}
//
// An estimate: a loop counts as one turn of it, a conditional as its dearest branch, a custom call as the bytes that it
// reads and writes.
#ifndef CAUSEWAY_HLO_COST_H_
#define CAUSEWAY_HLO_COST_H_

#include <map>
#include <string>

#include "xla/service/hlo.pb.h"

namespace causeway {

// "flops", "transcendentals" and "bytes accessed", of one device.
std::map<std::string, double> EstimateCost(const xla::HloModuleProto& module);

}  // namespace causeway

#endif  // CAUSEWAY_HLO_COST_H_
