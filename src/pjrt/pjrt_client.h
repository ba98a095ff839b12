// A plugin's client and its devices.
//
//   ASSIGN_OR_RETURN(auto client, PjrtClient::Create(api, {{"cpu_device_count", int64_t{4}}}));
//   client->device(2).default_memory
//
// Devices are the client's addressable ones, in its order: local device 0, 1, ...
// Threading: immutable, thread-safe. Lifetime: outlives everything made through it.
#ifndef CAUSEWAY_PJRT_PJRT_CLIENT_H_
#define CAUSEWAY_PJRT_PJRT_CLIENT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "pjrt/key_value_store.h"
#include "pjrt/pjrt_api.h"
#include "proto/control.pb.h"

namespace causeway {

// Options of PJRT_Client_Create; which there are is the plugin's affair.
using CreateOptions = std::map<std::string, std::variant<std::string, int64_t, float, bool>>;

class PjrtClient {
 public:
  struct Memory {
    std::string kind;
    PJRT_Memory* memory = nullptr;
  };
  struct Device {
    int id = 0;  // the plugin's
    PJRT_Device* device = nullptr;
    std::vector<Memory> memories;
  };

  // With `store`, which outlives the client, the plugin may meet those of other processes there.
  static absl::StatusOr<std::unique_ptr<PjrtClient>> Create(const PjrtApi* api, const CreateOptions& options,
                                                            KeyValueStore* store = nullptr);

  const PjrtApi& api() const { return *api_; }
  PJRT_Client* get() const { return client_.get(); }

  int num_devices() const { return static_cast<int>(devices_.size()); }

  // 0 <= local < num_devices().
  const Device& device(int local) const { return devices_[local]; }

  // INVALID_ARGUMENT unless `local` names a device.
  absl::Status CheckDevice(int local) const;

  // The memory of this kind that the device can address; null for the empty kind, which is the default.
  // INVALID_ARGUMENT if it has none, with those that it has.
  absl::StatusOr<PJRT_Memory*> FindMemory(int local, const std::string& kind) const;

  // Platform, plugin and devices.
  const proto::Hello& description() const { return description_; }

 private:
  PjrtClient(const PjrtApi* api, PjrtClientHandle client) : api_(api), client_(std::move(client)) {}

  absl::Status Describe();
  absl::Status DescribeDevice(PJRT_Device* device);
  absl::Status DescribeMemories(PJRT_Device* device, Device& ours, proto::Device& described);

  const PjrtApi* const api_;
  PjrtClientHandle client_;
  std::vector<Device> devices_;
  proto::Hello description_;
};

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_PJRT_CLIENT_H_
