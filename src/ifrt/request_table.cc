#include "ifrt/request_table.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace causeway {
namespace {

constexpr RequestState kWorks = RequestState::kWorks;
constexpr RequestState kPartly = RequestState::kPartly;
constexpr RequestState kRefused = RequestState::kRefused;

constexpr RequestEntry kTable[] = {
    {"init", kWorks, ""},
    {"check_future", kWorks, ""},
    {"check_value_ready", kWorks, ""},
    {"make_array_from_host_buffer", kPartly,
     "not for arrays of strings, which live on no device, and not for one buffer that would have to be cut into "
     "shards"},
    {"make_arrays_from_host_buffer_shards", kPartly, "not for arrays of strings, which live on no device"},
    {"make_error_arrays", kWorks, ""},
    {"assemble_array_from_single_device_arrays", kWorks, ""},
    {"remap_arrays", kWorks, ""},
    {"bitcast_arrays", kPartly,
     "only to the type and shard shape that the array has: no stock client asks for more, and plugins have no such "
     "call"},
    {"reshard_arrays", kWorks, ""},
    {"copy_to_host_buffer", kPartly,
     "only of arrays with one shard or with equal shards; clients read other arrays shard by shard"},
    {"disassemble_into_single_device_arrays", kWorks, ""},
    {"delete_array", kWorks, ""},
    {"copy_arrays", kWorks, ""},
    {"fully_replicated_shard", kWorks, ""},
    {"is_array_deleted", kWorks, ""},
    {"destruct_array", kWorks, ""},
    {"compile", kPartly,
     "not with host callbacks (the stock client cannot run them); of program types only XLA programs: colocated Python "
     "runs in "
     "the client, and plugin programs of pathwaysutils (persistence, profiling) are not known"},
    {"loaded_executable_metadata", kWorks, ""},
    {"loaded_executable_execute", kPartly, "not on devices other than those compiled for (portable executables)"},
    {"loaded_executable_fetch_execute_result", kWorks, "without device times"},
    {"loaded_executable_cost_analysis", kWorks,
     "counted in the program's HLO where the plugin has none (the CPU plugin)"},
    {"loaded_executable_human_readable_program_text", kWorks, ""},
    {"loaded_executable_delete", kWorks, ""},
    {"loaded_executable_is_deleted", kWorks, ""},
    {"loaded_executable_destruct", kWorks, ""},
    {"loaded_executable_mpmd_metadata", kRefused,
     "no MPMD executables are made here: IFRT IR programs are not compiled"},
    {"loaded_executable_mpmd_cost_analysis", kRefused,
     "no MPMD executables are made here: IFRT IR programs are not compiled"},
    {"loaded_host_callback_poll", kRefused, "no host callbacks are loaded here: the stock client cannot run them"},
    {"loaded_host_callback_return", kRefused, "no host callbacks are loaded here: the stock client cannot run them"},
    {"get_default_device_assignment", kWorks, ""},
    {"get_default_layout", kWorks, ""},
    {"GetVersion", kWorks, ""},
    {"IfrtSession", kWorks, ""},
    {"HostBufferStore", kWorks, ""},
    {"HostBufferLookup", kWorks, ""},
    {"HostBufferDelete", kWorks, ""},
    {"HostBufferReadFromDisk", kPartly, "only where the controller was given a directory for it"},
};

absl::string_view Describe(RequestState state) {
  switch (state) {
    case kWorks:
      return "works";
    case kPartly:
      return "works in part";
    case kRefused:
      return "refused";
  }
  return "";
}

}  // namespace

absl::Span<const RequestEntry> RequestTable() { return kTable; }

std::string RequestTableMarkdown() {
  std::string table = "| request | state | note |\n| --- | --- | --- |\n";
  for (const RequestEntry& entry : kTable) {
    absl::StrAppend(&table, "| `", entry.name, "` | ", Describe(entry.state), " | ", entry.note, " |\n");
  }
  return table;
}

absl::Status WhyRefused(xla::ifrt::proxy::IfrtRequest::RequestCase request) {
  const auto* field = xla::ifrt::proxy::IfrtRequest::descriptor()->FindFieldByNumber(request);
  for (const RequestEntry& entry : kTable) {
    if (field != nullptr && field->name() == absl::StrCat(entry.name, "_request")) {
      return absl::UnimplementedError(absl::StrCat(entry.name, ": ", entry.note));
    }
  }
  return absl::UnimplementedError("a request of a kind that this server does not know");
}

}  // namespace causeway
