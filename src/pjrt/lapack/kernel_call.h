// For tests: calls a kernel as XLA would, without a plugin.
//
//   KernelCall call("lapack_spotrf_ffi");
//   call.Operand<float>({2, 2}, {4, 2, 2, 5}).Letter("uplo", 'L');
//   const int factor = call.Result<float>({2, 2}), info = call.Result<int32_t>({});
//   ASSERT_TRUE(call.Run().ok());
//   EXPECT_THAT(call.Get<float>(factor), ElementsAre(2, 1, 2, 2));
//
// Threading: one thread for each object.
#ifndef CAUSEWAY_PJRT_LAPACK_KERNEL_CALL_H_
#define CAUSEWAY_PJRT_LAPACK_KERNEL_CALL_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "pjrt/lapack/batch.h"
#include "pjrt/lapack/lapack_kernels.h"

namespace causeway::lapack {

class KernelCall {
 public:
  explicit KernelCall(std::string_view target) : target_(target) {}

  template <typename T>
  KernelCall& Operand(std::vector<int64_t> dims, const std::vector<T>& values) {
    Value& value = Add<T>(operands_, std::move(dims), values.size());
    std::copy(values.begin(), values.end(), reinterpret_cast<T*>(value.bytes->data()));
    return *this;
  }

  // Gives the result's number, for Get. It holds ones to begin with, so that what a kernel leaves alone shows.
  template <typename T>
  int Result(std::vector<int64_t> dims) {
    int64_t count = 1;
    for (int64_t dim : dims) count *= dim;
    Value& value = Add<T>(results_, std::move(dims), count);
    std::fill_n(reinterpret_cast<T*>(value.bytes->data()), count, T{1});
    return static_cast<int>(results_.size()) - 1;
  }

  // A result that shares operand 0's memory, as XLA arranges where it can.
  template <typename T>
  int AliasedResult() {
    results_.push_back(operands_[0]);
    return static_cast<int>(results_.size()) - 1;
  }

  KernelCall& Letter(const std::string& name, char value) { return Attribute<uint8_t>(name, value); }

  template <typename T>
  KernelCall& Attribute(const std::string& name, T value) {
    constexpr XLA_FFI_DataType dtype = std::is_same_v<T, bool>      ? XLA_FFI_DataType_PRED
                                       : std::is_same_v<T, uint8_t> ? XLA_FFI_DataType_U8
                                                                    : XLA_FFI_DataType_S32;
    Scalar& scalar = attributes_[name];
    scalar.dtype = dtype;
    std::memcpy(scalar.bytes, &value, sizeof(value));
    return *this;
  }

  absl::Status Run() {
    std::vector<XLA_FFI_Buffer> buffers;
    for (std::vector<Value>* values : {&operands_, &results_}) {
      for (Value& value : *values) {
        buffers.push_back({XLA_FFI_Buffer_STRUCT_SIZE, nullptr, static_cast<XLA_FFI_DataType>(value.dtype),
                           value.bytes->data(), static_cast<int64_t>(value.dims.size()), value.dims.data()});
      }
    }
    std::vector<void*> pointers;
    for (XLA_FFI_Buffer& buffer : buffers) pointers.push_back(&buffer);
    std::vector<XLA_FFI_ArgType> operand_types(operands_.size(), XLA_FFI_ArgType_BUFFER);
    std::vector<XLA_FFI_RetType> result_types(results_.size(), XLA_FFI_RetType_BUFFER);

    std::vector<XLA_FFI_ByteSpan> names;
    std::vector<XLA_FFI_Scalar> scalars;
    for (auto& [name, scalar] : attributes_) {
      names.push_back({name.data(), name.size()});
      scalars.push_back({scalar.dtype, scalar.bytes});
    }
    std::vector<XLA_FFI_ByteSpan*> name_pointers;
    std::vector<void*> scalar_pointers;
    for (XLA_FFI_ByteSpan& name : names) name_pointers.push_back(&name);
    for (XLA_FFI_Scalar& scalar : scalars) scalar_pointers.push_back(&scalar);
    std::vector<XLA_FFI_AttrType> attribute_types(scalars.size(), XLA_FFI_AttrType_SCALAR);

    XLA_FFI_Api api = {};
    api.struct_size = XLA_FFI_Api_STRUCT_SIZE;
    api.XLA_FFI_Error_Create = [](XLA_FFI_Error_Create_Args* args) {
      return reinterpret_cast<XLA_FFI_Error*>(
          new absl::Status(static_cast<absl::StatusCode>(args->errc), args->message));
    };
    XLA_FFI_CallFrame frame = {};
    frame.struct_size = XLA_FFI_CallFrame_STRUCT_SIZE;
    frame.api = &api;
    frame.stage = XLA_FFI_ExecutionStage_EXECUTE;
    frame.args = {XLA_FFI_Args_STRUCT_SIZE, nullptr, static_cast<int64_t>(operands_.size()), operand_types.data(),
                  pointers.data()};
    frame.rets = {XLA_FFI_Rets_STRUCT_SIZE, nullptr, static_cast<int64_t>(results_.size()), result_types.data(),
                  pointers.data() + operands_.size()};
    frame.attrs = {XLA_FFI_Attrs_STRUCT_SIZE,
                   nullptr,
                   static_cast<int64_t>(scalars.size()),
                   attribute_types.data(),
                   name_pointers.data(),
                   scalar_pointers.data()};
    for (const FfiKernel& kernel : LapackKernels()) {
      if (kernel.name != target_) continue;
      const std::unique_ptr<absl::Status> error(
          reinterpret_cast<absl::Status*>(reinterpret_cast<XLA_FFI_Handler*>(kernel.handler)(&frame)));
      return error == nullptr ? absl::OkStatus() : *error;
    }
    return absl::NotFoundError(target_);
  }

  template <typename T>
  std::vector<T> Get(int result) const {
    const std::vector<char>& bytes = *results_[result].bytes;
    const T* const data = reinterpret_cast<const T*>(bytes.data());
    return {data, data + bytes.size() / sizeof(T)};
  }

 private:
  struct Value {
    ffi::DataType dtype;
    std::vector<int64_t> dims;
    std::shared_ptr<std::vector<char>> bytes;
  };
  struct Scalar {
    XLA_FFI_DataType dtype;
    char bytes[8];
  };

  template <typename T>
  static Value& Add(std::vector<Value>& values, std::vector<int64_t> dims, int64_t count) {
    values.push_back({kTestDataType<T>, std::move(dims), std::make_shared<std::vector<char>>(count * sizeof(T))});
    return values.back();
  }

  template <typename T>
  static constexpr ffi::DataType kTestDataType = std::is_same_v<T, int64_t> ? ffi::S64 : kDataType<T>;

  const std::string target_;
  std::vector<Value> operands_;
  std::vector<Value> results_;
  std::map<std::string, Scalar> attributes_;  // XLA passes them in the order of their names
};

}  // namespace causeway::lapack

#endif  // CAUSEWAY_PJRT_LAPACK_KERNEL_CALL_H_
