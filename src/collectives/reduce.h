// The arithmetic of reductions, elementwise over arrays of any element type.
//
//   const Reducer* sum = FindReducer(proto::Collective::SUM, DType::kBF16);
//   sum->first(a, partial, n);       // partial = a
//   sum->add(b, partial, n);         // partial += b
//   sum->merge(other, partial, n);   // partial += other, a partial of another worker
//   sum->last(partial, result, n);   // rounded, once
//
// Sums and products of floats narrower than f32 are partials in f32, so that what is rounded is the end and not every
// step; all others are partials in their own type. Minimum and maximum pass NaNs on, as XLA's do. Integers wrap; those
// of less than a byte are kept sign-extended. Of truth values the sum is OR, the product AND.
//
// Threading: pure functions. Memory need not be aligned; `from` and `to` do not overlap. n may be 0.
#ifndef CAUSEWAY_COLLECTIVES_REDUCE_H_
#define CAUSEWAY_COLLECTIVES_REDUCE_H_

#include <cstdint>

#include "base/dtype.h"
#include "proto/collectives.pb.h"

namespace causeway::collectives {

struct Reducer {
  int element_bytes;
  int partial_bytes;  // of one element's partial
  void (*first)(const char* from, char* partial, int64_t n);
  void (*add)(const char* from, char* partial, int64_t n);
  void (*merge)(const char* from, char* partial, int64_t n);
  void (*last)(const char* partial, char* to, int64_t n);

  // An operand is a partial as it is, and a partial a result.
  bool plain = false;
};

// Null: there is no such reduction of this type.
const Reducer* FindReducer(proto::Collective::Reduction reduction, DType dtype);

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_REDUCE_H_
