#include "cli/ask.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/mutex.h"
#include "net/io_thread.h"
#include "net/tcp_link.h"

namespace causeway {
namespace {

class Asker final : public LinkHandler {
 public:
  explicit Asker(std::string question) : question_(std::move(question)) {}

  void Connected(absl::StatusOr<std::unique_ptr<Link>> link) {
    if (!link.ok()) return Finish(link.status());
    Link* started = nullptr;
    {
      MutexLock lock(&mu_);
      link_ = *std::move(link);
      started = link_.get();
    }
    started->SetMaxFrameBytes(kMaxControlFrameBytes);
    started->Start(this);
    started->Send(question_);
  }

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
  void Finish(absl::StatusOr<proto::ToWorker> answer) {
    MutexLock lock(&mu_);
    if (answer_) return;
    answer_ = std::move(answer);
    answered_.SignalAll();
  }

  const std::string question_;
  Mutex mu_;
  CondVar answered_;
  std::unique_ptr<Link> link_ ABSL_GUARDED_BY(mu_);
  std::optional<absl::StatusOr<proto::ToWorker>> answer_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::StatusOr<proto::ToWorker> Ask(const std::string& control_address, const proto::ToController& question,
                                    absl::Duration timeout) {
  Asker asker(question.SerializeAsString());
  absl::StatusOr<proto::ToWorker> answer;
  {
    IoThread io("ask");
    DialLink(&io, control_address, timeout,
             [&asker](absl::StatusOr<std::unique_ptr<Link>> link) { asker.Connected(std::move(link)); });
    answer = asker.Wait(timeout);
    // The thread ends here, before the handler that it calls.
  }
  if (answer.ok()) return answer;
  return absl::Status(answer.status().code(),
                      absl::StrCat(answer.status().message(), " (is a controller running at ", control_address,
                                   "? `causeway up` starts a cluster; --controller says where it is)"));
}

}  // namespace causeway
