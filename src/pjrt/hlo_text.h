// An HLO module as text, near enough to XLA's own for people and for tests that look for an instruction: the plugin
// gives its optimised programs as protos only, and we link no XLA to print them.
//
//   ENTRY %main (p0: f32[4]) -> f32[4] {
//     %p0 = f32[4]{0} parameter(0)
//     ROOT %add = f32[4]{0} add(f32[4]{0} %p0, f32[4]{0} %p0)
//   }
//
// Large constants are elided, as XLA does. A pure function.
#ifndef CAUSEWAY_PJRT_HLO_TEXT_H_
#define CAUSEWAY_PJRT_HLO_TEXT_H_

#include <string>

#include "xla/service/hlo.pb.h"

namespace causeway {

std::string HloText(const xla::HloModuleProto& module);

}  // namespace causeway

#endif  // CAUSEWAY_PJRT_HLO_TEXT_H_
