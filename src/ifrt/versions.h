// Which versions of the IFRT proxy protocol this server speaks, and which jax releases have been tried with it.
//
//   ASSIGN_OR_RETURN(IfrtProxyVersion chosen, ChooseVersion(request));   // or FAILED_PRECONDITION with the cure
//   std::puts(DescribeOffer(request).c_str());                           // "protocol 15 to 22, SerDes 0"
//
// A client offers a range and takes what it is answered; an answer outside its range makes it abort. So the answer is
// the newest version that both know, or an error that names both ranges and the releases of jax to install instead.
//
// The protocol's range is set here, where the code is that speaks it. The releases come from CLIENT_VERSIONS in
// tools/versions.env: they are run by `make test-full`, which also writes their table in docs/COMPATIBILITY.md.
//
// Threading: pure functions.
#ifndef CAUSEWAY_IFRT_VERSIONS_H_
#define CAUSEWAY_IFRT_VERSIONS_H_

#include <string>
#include <vector>

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

// The ranges of a client, for people.
std::string DescribeOffer(const xla::ifrt::proxy::GrpcGetVersionRequest& request);

// The ranges of this server, likewise: "protocol 16 to 25, SerDes 0 to 3".
std::string DescribeWindow();

// The jaxlib whose wire format this server was built with: "0.10.2".
std::string JaxlibBuiltAgainst();

// The jax releases whose clients are tried against this server, oldest first. Never empty.
std::vector<std::string> TestedJax();

}  // namespace causeway

#endif  // CAUSEWAY_IFRT_VERSIONS_H_
