// A tool's link to a controller: dialled, and opened with one frame. Who derives from it says what becomes of the
// answers.
//
//   class Asker final : public ToolLink { void OnFrame(...) override; void OnClosed(...) override; void Fail(...)
//   override; }; Asker asker(question.SerializeAsString());
//   {
//     IoThread io("ask");
//     asker.Dial(&io, address, timeout);
//     ...                                   // waits
//   }                                       // the thread ends before the handler that it calls
//
// Threading: OnFrame, OnClosed and Fail are called on the I/O thread, the rest from anywhere.
#ifndef CAUSEWAY_CLI_TOOL_LINK_H_
#define CAUSEWAY_CLI_TOOL_LINK_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/limits.h"
#include "base/mutex.h"
#include "net/io_thread.h"
#include "net/tcp_link.h"

namespace causeway {

class ToolLink : public LinkHandler {
 public:
  // `opening` is sent as soon as there is a link.
  explicit ToolLink(std::string opening) : opening_(std::move(opening)) {}

  // Gives up after `timeout`. `io` has to end before this.
  void Dial(IoThread* io, const std::string& address, absl::Duration timeout) {
    DialLink(io, address, timeout, [this](absl::StatusOr<std::unique_ptr<Link>> link) { Connected(std::move(link)); });
  }

 protected:
  // There is no link.
  virtual void Fail(const absl::Status& why) = 0;

  // Does nothing before there is a link.
  void Send(const std::string& frame) {
    MutexLock lock(&mu_);
    if (link_ != nullptr) link_->Send(frame);
  }

 private:
  void Connected(absl::StatusOr<std::unique_ptr<Link>> link) {
    if (!link.ok()) return Fail(link.status());
    Link* started = nullptr;
    {
      MutexLock lock(&mu_);
      link_ = *std::move(link);
      started = link_.get();
    }
    started->SetMaxFrameBytes(kMaxControlFrameBytes);
    started->Start(this);
    started->Send(opening_);
  }

  const std::string opening_;
  Mutex mu_;
  std::unique_ptr<Link> link_ ABSL_GUARDED_BY(mu_);
};

}  // namespace causeway

#endif  // CAUSEWAY_CLI_TOOL_LINK_H_
