// Limits that more than one folder must agree on. A limit that only one file knows stands in that file.
#ifndef CAUSEWAY_BASE_LIMITS_H_
#define CAUSEWAY_BASE_LIMITS_H_

#include <cstdint>

namespace causeway {

// Host data up to this size rides in control frames: one hop, never behind bulk data. Larger data go by the data plane.
inline constexpr int64_t kInlineBytes = 64 << 10;

// One chunk of a bulk stream.
inline constexpr int64_t kChunkBytes = 1 << 20;

// What the controller takes of one bulk stream ahead of whoever consumes it.
inline constexpr int64_t kStreamWindowBytes = 8 << 20;

// A control frame, larger than any program seen (modules with large constants).
inline constexpr int64_t kMaxControlFrameBytes = int64_t{1} << 30;

// A control frame before its sender has shown who it is.
inline constexpr int64_t kMaxHelloBytes = 1 << 20;

// A trace: how long it may record, how many events a process keeps until somebody has taken them, and how many a frame
// holds.
inline constexpr int64_t kMaxTraceMs = 10 * 60 * 1000;
inline constexpr int64_t kMaxTraceEvents = 1 << 16;
inline constexpr int64_t kMaxTraceFrameEvents = 1 << 12;

inline constexpr int kMaxDevicesPerWorker = 4096;
inline constexpr int kMaxArrayRank = 64;

}  // namespace causeway

#endif  // CAUSEWAY_BASE_LIMITS_H_
