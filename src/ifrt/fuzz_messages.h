// Messages of the IFRT protocol for fuzz targets: shardings in all their spellings, types, and what to damage them
// with.
//
// Threading: none.
#ifndef CAUSEWAY_IFRT_FUZZ_MESSAGES_H_
#define CAUSEWAY_IFRT_FUZZ_MESSAGES_H_

#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "fuzz/input.h"
#include "fuzz/proto_filler.h"
#include "hlo/fuzz_sharding.h"
#include "ifrt/handles.h"
#include "xla/python/ifrt/sharding.pb.h"
#include "xla/python/ifrt/sharding_serdes.pb.h"
#include "xla/python/pjrt_ifrt/xla_sharding.pb.h"

namespace causeway {

// Devices that a fuzzed cluster has: 0 .. kFuzzDevices - 1.
inline constexpr int kFuzzDevices = 4;

// A device of that cluster, or now and then another one.
inline int32_t FuzzDevice(FuzzInput& in) {
  const int byte = in.Byte();
  return byte < 240 ? byte % kFuzzDevices : static_cast<int32_t>(in.Number());
}

// A name that the client gives, one that the server gave, or none at all.
inline uint64_t FuzzHandle(FuzzInput& in) {
  const int byte = in.Byte();
  if (byte < 160) return byte % 24;
  if (byte < 248) return kServerHandles + (byte - 160) % 32;
  return static_cast<uint64_t>(in.Number());
}

xla::ifrt::ShardingProto FuzzShardingProto(FuzzInput& in, const std::vector<int64_t>& dims);

// Fills and damages requests: devices, handles and shardings are such as meet.
inline ProtoFiller IfrtFiller() {
  ProtoFiller filler;
  filler.hook = [](FuzzInput& in, google::protobuf::Message& message, const ProtoFiller::Field& field) {
    const auto& fields = *message.GetReflection();
    const std::string& name = field.name();
    if (field.cpp_type() == ProtoFiller::Field::CPPTYPE_MESSAGE &&
        field.message_type() == xla::ifrt::ShardingProto::descriptor() && in.Byte() < 248) {
      auto* sharding =
          field.is_repeated() ? fields.AddMessage(&message, &field) : fields.MutableMessage(&message, &field);
      *static_cast<xla::ifrt::ShardingProto*>(sharding) = FuzzShardingProto(in, FuzzDims(in, 2));
      return true;
    }
    if (field.cpp_type() == ProtoFiller::Field::CPPTYPE_INT32 && name.find("device_id") != std::string::npos) {
      field.is_repeated() ? fields.AddInt32(&message, &field, FuzzDevice(in))
                          : fields.SetInt32(&message, &field, FuzzDevice(in));
      return true;
    }
    if (field.cpp_type() == ProtoFiller::Field::CPPTYPE_UINT64 && name.find("handle") != std::string::npos) {
      field.is_repeated() ? fields.AddUInt64(&message, &field, FuzzHandle(in))
                          : fields.SetUInt64(&message, &field, FuzzHandle(in));
      return true;
    }
    return false;
  };
  return filler;
}

template <typename Proto>
void FuzzDeviceList(FuzzInput& in, int count, Proto& p) {
  const int first = in.Below(kFuzzDevices);
  std::vector<int32_t> devices;
  for (int i = 0; i < count; ++i) devices.push_back((first + i) % kFuzzDevices);
  FuzzShuffle(in, devices);
  p.mutable_devices()->mutable_device_ids()->Add(devices.begin(), devices.end());
  if (in.OneIn(4)) p.set_memory_kind(in.Flag() ? "device" : "pinned_host");
}

// One of the six kinds, mostly one that lays out an array of shape `dims`.
inline xla::ifrt::ShardingProto FuzzShardingProto(FuzzInput& in, const std::vector<int64_t>& dims) {
  xla::ifrt::ShardingProto wire;
  auto& serialized = *wire.mutable_serialized_sharding();
  const auto put = [&](const char* type, auto& p) {
    if (in.OneIn(12)) IfrtFiller().Fill(in, p, /*depth=*/3);
    serialized.set_type_name(std::string("xla::ifrt::") + type);
    serialized.set_data(p.SerializeAsString());
  };
  const int kind = in.Below(8);
  const int count = 1 + in.Below(kFuzzDevices);
  switch (kind) {
    case 0:
    case 1: {
      xla::ifrt::SingleDeviceShardingProto p;
      p.set_device_id(FuzzDevice(in));
      put("SingleDeviceSharding", p);
      break;
    }
    case 2:
    case 3: {
      xla::ifrt::HloShardingProto p;
      FuzzDeviceList(in, count, p);
      *p.mutable_xla_op_sharding() = FuzzOpSharding(in, count);
      put("HloSharding", p);
      break;
    }
    case 4: {
      xla::ifrt::ConcreteEvenShardingProto p;
      FuzzDeviceList(in, count, p);
      p.mutable_shape()->mutable_dims()->Add(dims.begin(), dims.end());
      for (int64_t d : dims) p.mutable_shard_shape()->add_dims(in.Flag() ? d : d / count);
      put("ConcreteEvenSharding", p);
      break;
    }
    case 5: {
      xla::ifrt::ConcreteShardingProto p;
      FuzzDeviceList(in, count, p);
      p.mutable_shape()->mutable_dims()->Add(dims.begin(), dims.end());
      std::vector<int64_t> shard = dims;
      if (!shard.empty() && in.Flag()) shard.front() /= count;
      for (int i = 0; i < count; ++i) p.add_shard_shapes()->mutable_dims()->Add(shard.begin(), shard.end());
      put("ConcreteSharding", p);
      break;
    }
    case 6: {
      xla::ifrt::ShardingParamShardingProto p;
      FuzzDeviceList(in, count, p);
      auto& param = *p.mutable_sharding_param();
      auto [axes, rest] = FuzzFactors(in, count, /*most=*/2);
      axes.push_back(rest);
      std::vector<int32_t> permutation(axes.size());
      std::iota(permutation.begin(), permutation.end(), 0);
      FuzzShuffle(in, permutation);
      for (int64_t axis : axes) param.add_axis_sizes(static_cast<int32_t>(axis));
      for (int32_t axis : permutation) param.add_permutation(axis);
      int64_t left = count;
      for (size_t i = 0; i < dims.size(); ++i) {
        const auto [shards, over] = FuzzFactors(in, left, /*most=*/1);
        param.add_dim_shards(shards.empty() ? 1 : shards.front());
        left = over;
      }
      put("ShardingParamSharding", p);
      break;
    }
    default: {
      if (in.Flag()) {
        xla::ifrt::OpaqueShardingProto p;
        FuzzDeviceList(in, count, p);
        put("OpaqueSharding", p);
      } else {
        constexpr const char* kTypes[] = {"SingleDeviceSharding", "HloSharding",           "ConcreteEvenSharding",
                                          "ConcreteSharding",     "ShardingParamSharding", "OtherSharding"};
        serialized.set_type_name(std::string("xla::ifrt::") + kTypes[in.Below(6)]);
        serialized.set_data(in.Bytes(64));
      }
    }
  }
  return wire;
}

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_FUZZ_MESSAGES_H_
