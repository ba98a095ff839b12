// TakeOutCollectives: whatever module it is given, it says that it is malformed or refused, or leaves no collective in
// it and a table whose groups hold every device once.
#include "hlo/collectives.h"

#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "fuzz/proto_filler.h"

namespace causeway {
namespace {

constexpr const char* kOpcodes[] = {"all-reduce",
                                    "all-gather",
                                    "reduce-scatter",
                                    "all-to-all",
                                    "collective-permute",
                                    "collective-broadcast",
                                    "ragged-all-to-all",
                                    "partition-id",
                                    "replica-id",
                                    "parameter",
                                    "add",
                                    "maximum",
                                    "send",
                                    "all-reduce-start",
                                    "custom-call",
                                    "convert"};

// Names that meet: opcodes that mean something, and small numbers.
bool Meaningful(FuzzInput& in, google::protobuf::Message& message, const google::protobuf::FieldDescriptor& field) {
  const auto& reflection = *message.GetReflection();
  if (field.name() == "opcode") {
    reflection.SetString(&message, &field, kOpcodes[in.Below(std::size(kOpcodes))]);
    return true;
  }
  if (field.cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_INT64 || in.OneIn(8)) return false;
  const int64_t number = in.Below(9) - 1;
  if (field.is_repeated()) {
    reflection.AddInt64(&message, &field, number);
  } else {
    reflection.SetInt64(&message, &field, number);
  }
  return true;
}

void CheckTable(const proto::Collectives& table, int64_t devices) {
  for (const proto::Collective& collective : table.collectives()) {
    std::set<int> members;
    for (const auto& group : collective.groups()) {
      for (int device : group.devices()) {
        FUZZ_CHECK(device >= 0 && device < devices);
        FUZZ_CHECK(members.insert(device).second);
      }
    }
    const bool permutes = collective.kind() == proto::Collective::COLLECTIVE_PERMUTE;
    FUZZ_CHECK(permutes ? members.empty() : static_cast<int64_t>(members.size()) == devices);
    for (const auto& pair : collective.pairs()) {
      FUZZ_CHECK(pair.source() >= 0 && pair.source() < devices && pair.target() >= 0 && pair.target() < devices);
    }
  }
}

}  // namespace
}  // namespace causeway

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace causeway;
  FuzzInput in(data, size);
  const int64_t replicas = in.Below(4);
  const int64_t partitions = in.Below(9);
  xla::HloModuleProto module;
  ProtoFiller filler;
  filler.hook = Meaningful;
  while (!in.empty()) {
    auto& instruction = *module.add_computations()->add_instructions();
    filler.Fill(in, instruction);
    module.mutable_computations(module.computations_size() - 1)->set_id(in.Below(9) - 1);
  }
  const auto table = TakeOutCollectives(module, replicas, partitions);
  if (!table.ok()) {
    FUZZ_CHECK(absl::IsInvalidArgument(table.status()) || absl::IsUnimplemented(table.status()));
    return 0;
  }
  CheckTable(*table, replicas * partitions);
  int calls = 0;
  for (const auto& computation : module.computations()) {
    for (const auto& instruction : computation.instructions()) {
      FUZZ_CHECK(!absl::StartsWith(instruction.opcode(), "all-"));
      calls += instruction.custom_call_target() == "causeway_collective" && instruction.constrain_layout() ? 1 : 0;
    }
  }
  FUZZ_CHECK(calls >= table->collectives_size());
  ShowCollectives(*table, module);
  return 0;
}
