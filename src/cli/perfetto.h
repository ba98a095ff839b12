// A recording as JSON in the trace event format, which ui.perfetto.dev and chrome://tracing show: a track for each
// device, each link and each session's requests, one for the controller's thread, and arrows from a request to its
// launches, and from launches to those that take what they made.
//
//   RETURN_IF_ERROR(WritePerfetto(recorder.Finish(), [](absl::string_view text) { return Write(text); }));
//
// Threading: pure function. Memory: that of the recording, and one event.
#ifndef CAUSEWAY_CLI_PERFETTO_H_
#define CAUSEWAY_CLI_PERFETTO_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cli/recording.h"

namespace causeway {

// Calls `sink` with one part of the text after the other, until it returns an error: that is returned.
absl::Status WritePerfetto(const Recording& recording, absl::FunctionRef<absl::Status(absl::string_view)> sink);

}  // namespace causeway

#endif  // CAUSEWAY_CLI_PERFETTO_H_
