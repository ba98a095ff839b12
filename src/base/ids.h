// The names of things, one type each, so that a worker is never taken for a device.
//
//   DeviceId d{3};
//   int32_t raw = Raw(d);
//
// Array, program and stream ids are minted on the client's side of the controller core (by the door) or by the core
// itself and are unique over the life of a controller: the session's number stands in their high bits, so that all that
// a session owns can be named by one number.
#ifndef CAUSEWAY_BASE_IDS_H_
#define CAUSEWAY_BASE_IDS_H_

#include <cstdint>
#include <type_traits>

namespace causeway {

// A device as clients see it: stable over the life of a controller, island-major.
enum class DeviceId : int32_t {};

// A worker's slot in the cluster: a worker that returns under the same name gets the same slot and the same devices.
enum class WorkerId : int32_t {};

enum class IslandId : int32_t {};

// One client's connection. Counts from 1; at most kMaxSession.
enum class SessionId : uint32_t {};

// (session, number) packed: see MakeArrayId.
enum class ArrayId : uint64_t {};
enum class ProgramId : uint64_t {};

// Position of a launch in the one order that the controller gives. Counts from 1.
enum class LaunchNumber : uint64_t {};

// One bulk stream of bytes between two processes. Unique over the life of a controller.
enum class StreamId : uint64_t {};

// Names a waiting request of a session until its reply. Chosen by the door, unique per session.
enum class Ticket : uint64_t {};

template <typename Id>
constexpr std::underlying_type_t<Id> Raw(Id id) {
  return static_cast<std::underlying_type_t<Id>>(id);
}

inline constexpr int kSessionNumberBits = 40;
inline constexpr uint64_t kMaxPerSession = (uint64_t{1} << kSessionNumberBits) - 1;
inline constexpr uint32_t kMaxSession = (uint32_t{1} << 24) - 1;

// The id of a session's `number`-th array. `number` is at most kMaxPerSession.
constexpr ArrayId MakeArrayId(SessionId session, uint64_t number) {
  return ArrayId{(uint64_t{Raw(session)} << kSessionNumberBits) | number};
}
constexpr ProgramId MakeProgramId(SessionId session, uint64_t number) {
  return ProgramId{(uint64_t{Raw(session)} << kSessionNumberBits) | number};
}
constexpr SessionId SessionOf(ArrayId id) { return SessionId{static_cast<uint32_t>(Raw(id) >> kSessionNumberBits)}; }
constexpr SessionId SessionOf(ProgramId id) { return SessionId{static_cast<uint32_t>(Raw(id) >> kSessionNumberBits)}; }

}  // namespace causeway

#endif  // CAUSEWAY_BASE_IDS_H_
