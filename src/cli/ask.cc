#include "cli/ask.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "cli/tool_link.h"
#include "net/io_thread.h"

namespace causeway {
namespace {

class Asker final : public ToolLink {
 public:
  using ToolLink::ToolLink;

  void OnFrame(std::string frame) override {
    proto::ToWorker answer;
    if (!answer.ParseFromString(frame))
      return Finish(absl::InternalError("the answer is no message of the control protocol"));
    Finish(std::move(answer));
  }
  void OnClosed(absl::Status why) override {
    Finish(absl::UnavailableError(absl::StrCat("no answer: ", why.ok() ? "the link was closed" : why.message())));
  }

  absl::StatusOr<proto::ToWorker> Wait(absl::Duration timeout) {
    const absl::Time deadline = absl::Now() + timeout;
    MutexLock lock(&mu_);
    while (!answer_) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) {
        return absl::DeadlineExceededError(absl::StrCat("no answer within ", absl::FormatDuration(timeout)));
      }
      answered_.WaitWithTimeout(&mu_, left);
    }
    return *std::move(answer_);
  }

 private:
  void Fail(const absl::Status& why) override { Finish(why); }
  void Finish(absl::StatusOr<proto::ToWorker> answer) {
    MutexLock lock(&mu_);
    if (answer_) return;
    answer_ = std::move(answer);
    answered_.SignalAll();
  }

  Mutex mu_;
  CondVar answered_;
  std::optional<absl::StatusOr<proto::ToWorker>> answer_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::StatusOr<proto::ToWorker> Ask(const std::string& control_address, const proto::ToController& question,
                                    absl::Duration timeout) {
  Asker asker(question.SerializeAsString());
  absl::StatusOr<proto::ToWorker> answer;
  {
    IoThread io("ask");
    asker.Dial(&io, control_address, timeout);
    answer = asker.Wait(timeout);
    // The thread ends here, before the handler that it calls.
  }
  if (answer.ok()) return answer;
  return absl::Status(answer.status().code(),
                      absl::StrCat(answer.status().message(), " (is a controller running at ", control_address,
                                   "? `causeway up` starts a cluster; --controller says where it is)"));
}

}  // namespace causeway
