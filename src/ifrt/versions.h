// Which versions of the IFRT proxy protocol this server speaks. docs/COMPATIBILITY.md says which jax has which.
//
// A client offers a range and takes what it is answered; an answer outside its range makes it abort. So the answer is
// the newest version that both know, or FAILED_PRECONDITION with the cure.
//
// Threading: pure functions.
#ifndef CAUSEWAY_IFRT_VERSIONS_H_
#define CAUSEWAY_IFRT_VERSIONS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "xla/python/ifrt_proxy/common/grpc_ifrt_service.pb.h"

namespace causeway {

// 16 brought executables with their devices; 25 is the newest that was tried.
inline constexpr int kMinProtocolVersion = 16;
inline constexpr int kMaxProtocolVersion = 25;

// Of the serialisation of programs, shardings and the like.
inline constexpr int kMinSerdesVersion = 0;
inline constexpr int kMaxSerdesVersion = 3;

absl::StatusOr<xla::ifrt::proxy::IfrtProxyVersion> ChooseVersion(
    const xla::ifrt::proxy::GrpcGetVersionRequest& request);

// FAILED_PRECONDITION where a session is opened with a version that ChooseVersion never gives.
absl::Status CheckVersion(const xla::ifrt::proxy::IfrtProxyVersion& version);

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_VERSIONS_H_
