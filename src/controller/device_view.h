// What is known of a device of the cluster.
#ifndef CAUSEWAY_CONTROLLER_DEVICE_VIEW_H_
#define CAUSEWAY_CONTROLLER_DEVICE_VIEW_H_

#include <string>

#include "base/ids.h"
#include "proto/control.pb.h"

namespace causeway {

// One device of the cluster, as sessions see it.
struct DeviceView {
  DeviceId id;
  WorkerId worker;
  IslandId island;
  int local_index = 0;  // on its worker
  bool alive = false;
  std::string platform;
  std::string worker_name;
  std::string island_name;
  proto::Device device;
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_DEVICE_VIEW_H_
