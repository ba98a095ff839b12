#include "worker/key_value_link.h"

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/limits.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "net/io_thread.h"
#include "net/tcp_link.h"
#include "proto/control.pb.h"
#include "proto/control_version.h"
#include "proto/status.h"

namespace causeway::worker {
namespace {

constexpr absl::Duration kDialPause = absl::Milliseconds(200);

// What the controller's answer may take beyond the patience that it was asked for.
constexpr absl::Duration kAnswerSlack = absl::Seconds(30);

}  // namespace

class KeyValueLink::Impl final : public LinkHandler {
 public:
  explicit Impl(KeyValueOptions options) : options_(std::move(options)), io_("cw-key-values") {}
  ~Impl() override {
    std::unique_ptr<Link> link;
    MutexLock lock(&mu_);
    link = std::move(link_);
  }

  absl::Status Dial() {
    const absl::Time deadline = absl::Now() + options_.dial_timeout;
    while (true) {
      absl::StatusOr<std::unique_ptr<Link>> dialled = DialOnce();
      if (dialled.ok()) {
        MutexLock lock(&mu_);
        link_ = *std::move(dialled);
        link_->SetMaxFrameBytes(kMaxControlFrameBytes);
        link_->Start(this);
        return absl::OkStatus();
      }
      if (absl::Now() >= deadline) {
        return absl::UnavailableError(
            absl::StrCat("the plugin is to meet those of other processes through the controller "
                         "at ",
                         options_.controller, ": ", dialled.status().message()));
      }
      absl::SleepFor(kDialPause);
    }
  }

  absl::StatusOr<std::string> Ask(proto::KeyValueRequest request, absl::Duration patience) {
    const absl::Time deadline = absl::Now() + patience + kAnswerSlack;
    proto::ToController message;
    request.set_version(kControlVersion);
    request.set_token(options_.token);
    request.set_group(options_.group);
    MutexLock lock(&mu_);
    const uint64_t number = ++last_number_;
    request.set_number(number);
    *message.mutable_key_value_request() = std::move(request);
    if (!lost_.ok()) return lost_;
    std::optional<proto::KeyValueReply>& reply = asked_[number];
    link_->Send(message.SerializeAsString());
    while (!reply && lost_.ok() && absl::Now() < deadline) changed_.WaitWithTimeout(&mu_, deadline - absl::Now());
    const std::optional<proto::KeyValueReply> answer = std::move(reply);
    asked_.erase(number);
    if (!answer) return lost_.ok() ? absl::DeadlineExceededError("the controller does not answer") : lost_;
    RETURN_IF_ERROR(FromProto(answer->status()));
    return answer->value();
  }

  void OnFrame(std::string frame) override {
    proto::ToWorker message;
    const bool parsed = message.ParseFromString(frame);
    MutexLock lock(&mu_);
    if (parsed && message.has_goodbye()) lost_.Update(FromProto(message.goodbye().status()));
    if (parsed && message.has_key_value_reply()) {
      const auto found = asked_.find(message.key_value_reply().number());
      if (found != asked_.end()) found->second = std::move(*message.mutable_key_value_reply());
    }
    changed_.SignalAll();
  }

  void OnClosed(absl::Status why) override {
    MutexLock lock(&mu_);
    lost_.Update(absl::UnavailableError(absl::StrCat("the link to the controller's key-value service is lost: ",
                                                     why.ok() ? "it was closed" : why.message())));
    changed_.SignalAll();
  }

 private:
  absl::StatusOr<std::unique_ptr<Link>> DialOnce() {
    struct Dialled {
      Mutex mu;
      CondVar changed;
      std::optional<absl::StatusOr<std::unique_ptr<Link>>> link ABSL_GUARDED_BY(mu);
    };
    const auto dialled = std::make_shared<Dialled>();
    DialLink(&io_, options_.controller, options_.dial_timeout, [dialled](absl::StatusOr<std::unique_ptr<Link>> link) {
      MutexLock lock(&dialled->mu);
      dialled->link = std::move(link);
      dialled->changed.SignalAll();
    });
    MutexLock lock(&dialled->mu);
    while (!dialled->link) dialled->changed.Wait(&dialled->mu);
    return *std::move(dialled->link);
  }

  const KeyValueOptions options_;
  Mutex mu_;
  CondVar changed_;
  uint64_t last_number_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<uint64_t, std::optional<proto::KeyValueReply>> asked_ ABSL_GUARDED_BY(mu_);
  absl::Status lost_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Link> link_ ABSL_GUARDED_BY(mu_);
  IoThread io_;  // ends first: it calls this
};

KeyValueLink::KeyValueLink(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
KeyValueLink::~KeyValueLink() = default;

absl::StatusOr<std::unique_ptr<KeyValueLink>> KeyValueLink::Connect(const KeyValueOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  RETURN_IF_ERROR(impl->Dial());
  return std::unique_ptr<KeyValueLink>(new KeyValueLink(std::move(impl)));
}

absl::Status KeyValueLink::Put(const std::string& key, const std::string& value) {
  proto::KeyValueRequest request;
  request.set_key(key);
  request.set_put(value);
  return impl_->Ask(std::move(request), absl::ZeroDuration()).status();
}

absl::StatusOr<std::string> KeyValueLink::Get(const std::string& key, absl::Duration patience) {
  proto::KeyValueRequest request;
  request.set_key(key);
  request.set_get_ms(absl::ToInt64Milliseconds(patience));
  return impl_->Ask(std::move(request), patience);
}

}  // namespace causeway::worker
