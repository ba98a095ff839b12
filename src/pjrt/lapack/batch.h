// What every kernel needs around its one LAPACK call: a C entry point, operands and results of checked shapes, the loop
// over the batch, and errors.
//
//   template <typename T>
//   ffi::Error Getrf(In<T> a, Out<T> lu_out, Out<int32_t> pivots_out, Out<int32_t> info_out) {
//     Batch batch("getrf", a.dimensions());
//     const lapack_int m = batch.rows(), n = batch.cols();
//     const InPlace lu = batch.Update("a", a, lu_out, {m, n});
//     const Items pivots = batch.Result("pivots", pivots_out, {std::min(m, n)});
//     const Items info = batch.Result("info", info_out, {});
//     return batch.Run(info, [&](int64_t i) {
//       return Lapack<T>::getrf(LAPACK_COL_MAJOR, m, n, lu.Load(i), LeadingDim(m), pivots[i]);
//     });
//   }
//   ... {"lapack_sgetrf_ffi", Handler<Getrf<float>>()} ...
//
// The program comes from a client, who may have written it by hand: a kernel states the shape of every buffer and the
// values of every option, and nothing is read, written or handed to LAPACK before all of them hold. (A LAPACK that
// finds an argument wrong may stop the process.)
//
// Matrices are column-major, batch dimensions lead: JAX asks for that layout in the custom call, XLA sees to it.
// Threading, lifetime: values on one kernel call's stack; they refer to the call's buffers.
#ifndef CAUSEWAY_PJRT_LAPACK_BATCH_H_
#define CAUSEWAY_PJRT_LAPACK_BATCH_H_

#include <algorithm>
#include <complex>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "pjrt/lapack/lapacke.h"
#include "xla/ffi/api/ffi.h"

namespace causeway::lapack {

namespace ffi = xla::ffi;

template <typename T>
inline constexpr ffi::DataType kDataType = ffi::DataType::INVALID;
template <>
inline constexpr ffi::DataType kDataType<int32_t> = ffi::DataType::S32;
template <>
inline constexpr ffi::DataType kDataType<float> = ffi::DataType::F32;
template <>
inline constexpr ffi::DataType kDataType<double> = ffi::DataType::F64;
template <>
inline constexpr ffi::DataType kDataType<std::complex<float>> = ffi::DataType::C64;
template <>
inline constexpr ffi::DataType kDataType<std::complex<double>> = ffi::DataType::C128;

// Parameters of a kernel. JAX passes its one-letter options ('L', 'U', 'V', ...) as unsigned bytes.
template <typename T>
using In = ffi::Buffer<kDataType<T>>;
template <typename T>
using Out = ffi::Result<ffi::Buffer<kDataType<T>>>;
template <const char* name>
using Letter = ffi::Attr<uint8_t, name>;

// float of complex<float>, and of float.
template <typename T>
using RealOf = ffi::NativeType<ffi::ToReal(kDataType<T>)>;

// The C entry point of `kernel`, a function whose parameters say which operands, attributes and results it takes.
template <auto kernel>
void* Handler() {
  XLA_FFI_Handler* const entry = [](XLA_FFI_CallFrame* frame) {
    static const auto* const bound = ffi::Ffi::BindTo(kernel).release();
    return bound->Call(frame);
  };
  return reinterpret_cast<void*>(entry);
}

// LAPACK wants at least 1 even where there are no rows.
inline lapack_int LeadingDim(lapack_int rows) { return std::max(rows, 1); }

// `count` uninitialised elements, or null where there is no memory: a kernel answers that with
// LAPACK_WORK_MEMORY_ERROR, as nothing may throw through the plugin.
template <typename T>
std::unique_ptr<T[]> Scratch(int64_t count) {
  return std::unique_ptr<T[]>(new (std::nothrow) T[std::max<int64_t>(count, 1)]);
}

// One buffer of the batch, by item.
template <typename T>
class Items {
 public:
  Items(T* data, int64_t item_size) : data_(data), item_size_(item_size) {}
  T* operator[](int64_t i) const { return data_ + i * item_size_; }
  int64_t item_size() const { return item_size_; }

 private:
  T* data_;
  int64_t item_size_;  // elements
};

// An operand that LAPACK overwrites with a result. XLA gives both the same memory where it can.
template <typename T>
class InPlace {
 public:
  InPlace(const T* from, T* to, int64_t item_size) : from_(from), to_(to, item_size) {}

  // Item `i` of the result, holding the operand's. Once for each item: LAPACK has overwritten it by then.
  T* Load(int64_t i) const {
    T* const item = to_[i];
    if (from_ != to_[0]) std::copy_n(from_ + i * to_.item_size(), to_.item_size(), item);
    return item;
  }

 private:
  const T* from_;
  Items<T> to_;
};

class Batch {
 public:
  // The batch that a buffer of shape [..., rows, cols] holds. `routine` is for messages and must outlive this.
  Batch(std::string_view routine, ffi::AnyBuffer::Dimensions dims);

  lapack_int rows() const { return rows_; }
  lapack_int cols() const { return cols_; }

  // Each states that one buffer has the batch's dimensions followed by `item`'s; Run fails if it has not.
  template <ffi::DataType dtype>
  Items<const ffi::NativeType<dtype>> Operand(std::string_view name, ffi::Buffer<dtype> buffer,
                                              std::initializer_list<int64_t> item) {
    return {buffer.typed_data(), CheckShape(name, buffer.dimensions(), item)};
  }
  template <ffi::DataType dtype>
  Items<ffi::NativeType<dtype>> Result(std::string_view name, ffi::Result<ffi::Buffer<dtype>> buffer,
                                       std::initializer_list<int64_t> item) {
    return {buffer->typed_data(), CheckShape(name, buffer->dimensions(), item)};
  }
  template <ffi::DataType dtype>
  InPlace<ffi::NativeType<dtype>> Update(std::string_view name, ffi::Buffer<dtype> from,
                                         ffi::Result<ffi::Buffer<dtype>> to, std::initializer_list<int64_t> item) {
    CheckShape(name, from.dimensions(), item);
    return {from.typed_data(), to->typed_data(), CheckShape(name, to->dimensions(), item)};
  }

  // The same for buffers whose element type the program chooses; it must be T.
  template <typename T>
  Items<const T> Operand(std::string_view name, ffi::AnyBuffer buffer, std::initializer_list<int64_t> item) {
    Require(buffer.element_type() == kDataType<T>, "all operands must have the same element type");
    return {static_cast<const T*>(buffer.untyped_data()), CheckShape(name, buffer.dimensions(), item)};
  }
  template <typename T>
  Items<T> Result(std::string_view name, ffi::Result<ffi::AnyBuffer> buffer, std::initializer_list<int64_t> item) {
    Require(buffer->element_type() == kDataType<T>, "the result must have the operands' element type");
    return {static_cast<T*>(buffer->untyped_data()), CheckShape(name, buffer->dimensions(), item)};
  }

  // The option `name` as a letter; Run fails if it is not one of `allowed`.
  char Option(std::string_view name, uint8_t value, std::string_view allowed);

  // Run fails with `rule`, a phrase such as "needs rows >= columns", unless `holds`.
  void Require(bool holds, std::string_view rule);

  // Run fails unless LAPACK, which counts work space in 32 bits, can use `elements` of it: an upper bound of what it
  // will ask for. It multiplies columns by a block size of at most kMaxBlock.
  void RequireWorkSpace(int64_t elements);
  static constexpr int64_t kMaxBlock = 70;

  // The first check that failed. To look at before memory is allocated by the dimensions; Run looks by itself.
  const ffi::Error& error() const { return error_; }

  // Calls solve(i), which returns LAPACK's info, for each item. An info other than 0 is the program's to look at, as in
  // jaxlib: JAX puts NaN in place of that item. INVALID_ARGUMENT, and nothing called, if a check failed;
  // RESOURCE_EXHAUSTED where there was no memory for work space.
  template <typename Solve>
  ffi::Error Run(const Items<int32_t>& info, const Solve& solve) const {
    if (error_.failure()) return error_;
    for (int64_t i = 0; i < count_; ++i) {
      *info[i] = solve(i);
      if (*info[i] == LAPACK_WORK_MEMORY_ERROR) return Failure(*info[i]);
    }
    return ffi::Error::Success();
  }

  // The same for routines whose info the program does not see, because they cannot fail once the checks hold: any info
  // other than 0 is INTERNAL.
  template <typename Solve>
  ffi::Error Run(const Solve& solve) const {
    if (error_.failure()) return error_;
    for (int64_t i = 0; i < count_; ++i) {
      if (const lapack_int info = solve(i); info != 0) return Failure(info);
    }
    return ffi::Error::Success();
  }

 private:
  // Gives the elements of one item.
  int64_t CheckShape(std::string_view name, ffi::AnyBuffer::Dimensions dims, std::initializer_list<int64_t> item);
  ffi::Error Failure(lapack_int info) const;

  const std::string_view routine_;
  std::vector<int64_t> batch_dims_;
  int64_t count_ = 1;
  lapack_int rows_ = 0;
  lapack_int cols_ = 0;
  ffi::Error error_;  // of the first check that failed
};

}  // namespace causeway::lapack

#endif  // CAUSEWAY_PJRT_LAPACK_BATCH_H_
