#include "timed/zeros.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "worker/shapes.h"

namespace causeway {
namespace {

constexpr uint64_t kSmallestMapping = 1 << 20;

struct Mapping {
  Mapping(void* a, size_t s) : at(a), size(s) {}
  ~Mapping() { munmap(at, size); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  void* const at;
  const size_t size;
};

absl::StatusOr<std::shared_ptr<const Mapping>> Map(size_t size) {
  void* const at = mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("no addresses for ", size, " bytes of zeros: ", strerror(errno)));
  }
  return std::make_shared<const Mapping>(at, size);
}

// Recursion is as deep as the rank.
void WriteStrided(int width, absl::Span<const int64_t> dims, absl::Span<const int64_t> strides, char* target) {
  if (dims.empty()) {
    std::memset(target, 0, width);
    return;
  }
  for (int64_t i = 0; i < dims[0]; ++i) {
    WriteStrided(width, dims.subspan(1), strides.subspan(1), target + i * strides[0]);
  }
}

}  // namespace

absl::StatusOr<HostBytes> Zeros(int64_t bytes) {
  // The largest so far, of which all others are a part.
  static Mutex& mutex = *new Mutex;
  static std::shared_ptr<const Mapping>& largest = *new std::shared_ptr<const Mapping>;
  if (bytes == 0) return HostBytes{};
  MutexLock lock(&mutex);
  const auto size = static_cast<uint64_t>(bytes);
  if (largest == nullptr || largest->size < size) {
    ASSIGN_OR_RETURN(largest, Map(std::bit_ceil(std::max(size, kSmallestMapping))));
  }
  return HostBytes{largest, {static_cast<const char*>(largest->at), static_cast<size_t>(bytes)}};
}

void WriteZeros(const HostShape& shape, absl::Span<char> target) {
  if (target.empty()) return;
  if (worker::IsDense(shape)) {
    std::memset(target.data(), 0, target.size());
  } else {
    WriteStrided(HostByteWidth(shape.dtype), shape.dims, shape.byte_strides, target.data());
  }
}

}  // namespace causeway
