#include "pjrt/partitioner.h"

#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "pjrt/compile.h"
#include "xla/pjrt/proto/compile_options.pb.h"

namespace causeway {
namespace {

// Every pass of the CPU compiler that optimises or lowers, so that what the hook sees is what the partitioner left. A
// name that a plugin does not know is no error.
constexpr char kPassesToSkip[] =
    "async-collective-custom-call-rewriter,async-collective-replacer,cse,control-dep-rewriter,"
    "nullary-function-wrap-inliner,sub-byte-size-setter,batched_gather_scatter_normalizer,result_caster,"
    "dot_decomposer,operand_upcaster,rng-expander,rng-bit-generator-expander,dynamic-index-splitter,"
    "conditional-to-select,map-inline,topk-decomposer,permutation_sort_simplifier,comparison-expander,"
    "cholesky_expander,qr_expander,eigh_expander,triangular_solve_expander,all_to_all_decomposer,"
    "stochastic_convert_decomposer,batch-dot-simplification,all-reduce-promotion,float-normalization-bf16,"
    "float-normalization-f16,convolution-group-converter,batchnorm_expander,logistic-expander,"
    "dynamic-dimension-simplifier,associative-scan-rewriter,reduce-window-rewriter,reduce-window-resizer,"
    "scan_expander,dynamic_padder,convolution-canonicalization,change-op-data-type,algsimp,simplify-sorts,"
    "gather_expander,gather_simplifier,tree_reduction_rewriter,while-loop-invariant-code-motion,"
    "while-loop-constant-sinking,simplify-while-loops,reshape-mover,constant_folding,simplify-conditional,"
    "select_and_scatter_expander,scatter_expander,scatter_simplifier,gemv-rewriter,bitcast_dtypes_expander,"
    "topk-rewriter,transpose-folding,while-loop-trip-count-annotator,shape-canonicalizer,literal-canonicalizer,"
    "reshape-decomposer,reduce-decomposer,broadcast_canonicalizer,dot-library-rewriter,fusion,fusion-wrapper,"
    "cpu-all-reduce-combiner,cpu-parallel-task-assigner,optimize_input_output_buffer_alias,copy-insertion,"
    "small-while-loop-hoisting,propagate-call-metadata,layout-assignment";

constexpr char kStopped[] = "causeway has the partitioned module: compiled no further";

// What the hook is to catch on this thread; null: the compile of the moment is not ours to stop. The compiler runs its
// passes on the thread that called it.
thread_local std::string* wanted = nullptr;

void OnModule(PJRT_XlaTransform_Callbacks*, PJRT_XlaTransform_Callback_Args* args) {
  args->changed = false;
  if (wanted == nullptr) return;
  wanted->assign(args->hlo_module, args->hlo_module_size);
  args->header.has_error = true;
  args->header.code = static_cast<uint32_t>(absl::StatusCode::kAborted);
  args->header.error_message = kStopped;
  args->header.error_message_size = sizeof(kStopped) - 1;
}

// The hook stays for the life of the plugin, and is the same for all who ask.
absl::Status RegisterHook(const PjrtApi& api) {
  static Mutex mutex;
  static auto& registered = *new std::set<const PjrtApi*>;
  static PJRT_XlaTransform_Callbacks callbacks = {.version = 1, .dtor = nullptr, .transform_hlo_module = OnModule};
  MutexLock lock(&mutex);
  if (registered.contains(&api)) return absl::OkStatus();
  const auto extension = api.Extension<PJRT_XlaTransform_Extension>(kXlaTransformExtensionType);
  if (extension.PJRT_Register_Xla_Transform == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("a program over several workers: the plugin ", api.path(),
                     " has neither collectives between processes nor the extension XlaTransform, by which its "
                     "partitioned programs could be had"));
  }
  static constexpr char kName[] = "causeway_partitioner";
  PjrtArgs<PJRT_Register_Xla_Transform_Args> args;
  args.name = kName;
  args.name_size = sizeof(kName) - 1;
  args.callbacks = &callbacks;
  RETURN_IF_ERROR(api.Call(extension.PJRT_Register_Xla_Transform, args));
  registered.insert(&api);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<const PjrtClient*> Partitioner::ClientFor(int devices) {
  if (client_ == nullptr || client_->num_devices() < devices) {
    client_ = nullptr;
    CreateOptions options;
    options["cpu_device_count"] = int64_t{devices};
    ASSIGN_OR_RETURN(client_, PjrtClient::Create(&api_, options));
    if (client_->num_devices() < devices) {
      return absl::UnimplementedError(absl::StrCat("the plugin ", api_.path(), " compiles for its ",
                                                   client_->num_devices(), " devices only, not for ", devices));
    }
  }
  return client_.get();
}

absl::StatusOr<xla::HloModuleProto> Partitioner::Partition(const std::string& format, const std::string& code,
                                                           const std::string& serialized_options, int devices) {
  xla::CompileOptionsProto options;
  if (!options.ParseFromString(serialized_options)) {
    return absl::InvalidArgumentError("the compile options are no xla.CompileOptionsProto");
  }
  RETURN_IF_ERROR(RegisterHook(api_));
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const PjrtClient* const client, ClientFor(devices));
  std::vector<int> all(devices);
  std::iota(all.begin(), all.end(), 0);
  RETURN_IF_ERROR(AssignDevices(*client, all, options));
  (*options.mutable_env_option_overrides())["xla_disable_hlo_passes"].set_string_field(kPassesToSkip);

  std::string module;
  wanted = &module;
  const absl::Status stopped = CompileCode(*client, format, code, options).status();
  wanted = nullptr;
  if (module.empty()) {
    RETURN_IF_ERROR(stopped);
    return absl::InternalError(absl::StrCat("the plugin ", api_.path(), " has compiled a program, but not shown it"));
  }
  xla::HloModuleProto partitioned;
  if (!partitioned.ParseFromString(module)) {
    return absl::InternalError(absl::StrCat("the plugin ", api_.path(), " shows a partitioned module that is none"));
  }
  return partitioned;
}

}  // namespace causeway
