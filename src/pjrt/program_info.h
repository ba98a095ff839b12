// What a compiled program's optimised HLO says of it.
//
//   ASSIGN_OR_RETURN(xla::HloModuleProto module, ParseOptimizedProgram(format, code));
//   proto::ProgramInfo info = DescribeModule(module, /*tupled_arguments=*/false, /*num_outputs=*/2);
//
// Why the HLO and not the C API's own calls: donation can be had nowhere else, the layouts are those of the entry point
// in both, and the Shardings extension answers from the same two fields of the same module, where a plugin has it at
// all.
#ifndef CAUSEWAY_PJRT_PROGRAM_INFO_H_
#define CAUSEWAY_PJRT_PROGRAM_INFO_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/control.pb.h"
#include "xla/service/hlo.pb.h"

namespace causeway {

// `format` is "hlo" or "hlo_with_config", as the plugin says. UNIMPLEMENTED for others, INTERNAL for code that is none.
absl::StatusOr<xla::HloModuleProto> ParseOptimizedProgram(absl::string_view format, const std::string& code);

// Name, parameters (layouts, shardings), layouts and shardings of the `num_outputs` outputs, donation and whether the
// plugin's own collectives occur. With `tupled_arguments` the module takes one tuple of all parameters.
// Gives the parameters and outputs the shardings that the module states for them, where it does.
void SetShardings(const xla::HloModuleProto& module, proto::ProgramInfo& info);

proto::ProgramInfo DescribeModule(const xla::HloModuleProto& module, bool tupled_arguments, int num_outputs);

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_PROGRAM_INFO_H_
