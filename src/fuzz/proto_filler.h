// Fills protobuf messages with the choices of a fuzzing input: whatever a peer can say, without guessing tags.
//
//   ProtoFiller filler;
//   filler.hook = [](FuzzInput& in, google::protobuf::Message& m, const google::protobuf::FieldDescriptor& f) {
//     if (f.name() != "array") return false;               // filled as any other
//     m.GetReflection()->SetUInt64(&m, &f, in.Below(8));   // names that meet
//     return true;
//   };
//   filler.Fill(in, request);      // adds to what is in it
//
// Threading: none.
#ifndef CAUSEWAY_FUZZ_PROTO_FILLER_H_
#define CAUSEWAY_FUZZ_PROTO_FILLER_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <functional>
#include <string>

#include "fuzz/input.h"

namespace causeway {

class ProtoFiller {
 public:
  using Field = google::protobuf::FieldDescriptor;
  using Message = google::protobuf::Message;

  // Fills a field, or adds one element to a repeated one. False: it is to be filled as any other.
  std::function<bool(FuzzInput& in, Message& message, const Field& field)> hook;

  // Sets some fields, the same one perhaps more than once. Fields of messages nest `depth` deep.
  void Fill(FuzzInput& in, Message& message, int depth = 6) const {
    const auto* descriptor = message.GetDescriptor();
    if (descriptor->field_count() == 0) return;
    for (int n = in.Below(kMostFields); n > 0 && !in.empty(); --n) {
      FillField(in, message, *descriptor->field(in.Byte() % descriptor->field_count()), depth);
    }
  }

  void FillField(FuzzInput& in, Message& message, const Field& field, int depth = 6) const {
    for (int n = field.is_repeated() ? in.Below(kMostElements) : 1; n > 0; --n) {
      if (hook && hook(in, message, field)) continue;
      FillOne(in, message, field, depth);
    }
  }

  // A text that protobuf takes for one.
  static std::string Text(FuzzInput& in) {
    std::string text = in.Bytes(16);
    for (char& c : text) c &= 0x7f;
    return text;
  }

 private:
  static constexpr int kMostFields = 9;
  static constexpr int kMostElements = 6;

  void FillOne(FuzzInput& in, Message& message, const Field& field, int depth) const {
    const auto& fields = *message.GetReflection();
    const bool many = field.is_repeated();
    const auto put = [&](auto set, auto add, auto value) {
      if (many) {
        (fields.*add)(&message, &field, std::move(value));
      } else {
        (fields.*set)(&message, &field, std::move(value));
      }
    };
    using R = google::protobuf::Reflection;
    switch (field.cpp_type()) {
      case Field::CPPTYPE_INT32:
        return put(&R::SetInt32, &R::AddInt32, static_cast<int32_t>(in.Number()));
      case Field::CPPTYPE_INT64:
        return put(&R::SetInt64, &R::AddInt64, in.Number());
      case Field::CPPTYPE_UINT32:
        return put(&R::SetUInt32, &R::AddUInt32, static_cast<uint32_t>(in.Number()));
      case Field::CPPTYPE_UINT64:
        return put(&R::SetUInt64, &R::AddUInt64, static_cast<uint64_t>(in.Number()));
      case Field::CPPTYPE_DOUBLE:
        return put(&R::SetDouble, &R::AddDouble, static_cast<double>(in.Number()));
      case Field::CPPTYPE_FLOAT:
        return put(&R::SetFloat, &R::AddFloat, static_cast<float>(in.Number()));
      case Field::CPPTYPE_BOOL:
        return put(&R::SetBool, &R::AddBool, in.Flag());
      case Field::CPPTYPE_ENUM:
        return FillEnum(in, message, field);
      case Field::CPPTYPE_STRING:
        return put(&R::SetString, &R::AddString, field.type() == Field::TYPE_BYTES ? in.Bytes(32) : Text(in));
      case Field::CPPTYPE_MESSAGE:
        if (depth == 0) return;
        return Fill(in, many ? *fields.AddMessage(&message, &field) : *fields.MutableMessage(&message, &field),
                    depth - 1);
    }
  }

  static void FillEnum(FuzzInput& in, Message& message, const Field& field) {
    const auto& values = *field.enum_type();
    const int choice = in.Byte();
    // Of an open enum any number may come.
    const bool open = message.GetReflection()->SupportsUnknownEnumValues();
    const int number =
        open && choice >= 240 ? static_cast<int>(in.Number()) : values.value(choice % values.value_count())->number();
    if (field.is_repeated()) {
      message.GetReflection()->AddEnumValue(&message, &field, number);
    } else {
      message.GetReflection()->SetEnumValue(&message, &field, number);
    }
  }
};

}  // namespace causeway

#endif  // CAUSEWAY_FUZZ_PROTO_FILLER_H_
