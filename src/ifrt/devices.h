// What a new client is told of its slice of the cluster: the answer to Init.
//
// Devices have the ids that they have for everybody. Each device carries the attributes of its plugin, and
//   island              number of its island
//   virtual_task_index  number of its worker: programs run on the devices of one worker
//   slice_index         its island again, only where asked for: more than one value makes jax.make_mesh refuse
//
// Threading: pure functions.
#ifndef CAUSEWAY_IFRT_DEVICES_H_
#define CAUSEWAY_IFRT_DEVICES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "controller/core.h"
#include "xla/python/ifrt_proxy/common/ifrt_service.pb.h"

namespace causeway {

struct ClusterView {
  std::vector<DeviceView> devices;
  std::string platform;
  std::string platform_version;
  std::vector<int64_t> stablehlo_version;
};

// Devices that are not alive are left out: a client would make its mesh of them.
xla::ifrt::proxy::InitResponse InitResponseFor(const ClusterView& cluster, uint64_t session_key, bool slices);

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_DEVICES_H_
