// Two macros for absl::Status end to end.
//
//   RETURN_IF_ERROR(Check(x));
//   ASSIGN_OR_RETURN(auto y, Make(x));
#ifndef CAUSEWAY_BASE_STATUS_MACROS_H_
#define CAUSEWAY_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define CAUSEWAY_CONCAT_INNER_(a, b) a##b
#define CAUSEWAY_CONCAT_(a, b) CAUSEWAY_CONCAT_INNER_(a, b)

#define RETURN_IF_ERROR(expr)                          \
  do {                                                 \
    if (absl::Status s_ = (expr); !s_.ok()) return s_; \
  } while (false)

#define CAUSEWAY_ASSIGN_OR_RETURN_(tmp, lhs, expr) \
  auto tmp = (expr);                               \
  if (!tmp.ok()) return tmp.status();              \
  lhs = std::move(tmp).value()

#define ASSIGN_OR_RETURN(lhs, expr) CAUSEWAY_ASSIGN_OR_RETURN_(CAUSEWAY_CONCAT_(statusor_, __LINE__), lhs, expr)

#endif  // CAUSEWAY_BASE_STATUS_MACROS_H_
