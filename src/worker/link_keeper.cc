#include "worker/link_keeper.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "proto/status.h"

namespace causeway::worker {
namespace {

constexpr absl::Duration kIdlePoll = absl::Milliseconds(10);

}  // namespace

LinkKeeper::LinkKeeper(Dial dial, LinkKeeperOptions options, LinkUser* user)
    : dial_(std::move(dial)), options_(std::move(options)), user_(user), delay_(options_.min_delay) {
  thread_ = std::thread([this] { Keep(); });
  pthread_setname_np(thread_.native_handle(), "cw-link");
}

LinkKeeper::~LinkKeeper() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    changed_.SignalAll();
    if (dialling_ != nullptr) {
      MutexLock dial_lock(&dialling_->mu);
      dialling_->given_up = true;
      dialling_->changed.SignalAll();
    }
  }
  thread_.join();
}

void LinkKeeper::Keep() {
  while (true) {
    const absl::StatusOr<std::shared_ptr<Link>> link = Connect();
    absl::Status why = link.status();
    if (link.ok()) why = Serve(*link);
    const absl::Time ended = SteadyNow();
    const absl::Time until = ended + NextDelay();
    {
      MutexLock lock(&mu_);
      if (!stopping_) SayWhy(why);
      while (!stopping_ && SteadyNow() < until) changed_.WaitWithTimeout(&mu_, until - SteadyNow());
      while (!stopping_ && !user_->IsIdle() && SteadyNow() < ended + options_.old_work_patience) {
        changed_.WaitWithTimeout(&mu_, kIdlePoll);
      }
      if (stopping_) return;
    }
    if (link.ok() && !user_->IsIdle()) user_->OnStuck();
  }
}

absl::StatusOr<std::shared_ptr<Link>> LinkKeeper::Connect() {
  const auto dialled = std::make_shared<Dialled>();
  {
    MutexLock lock(&mu_);
    if (stopping_) return absl::CancelledError("stopping");
    dialling_ = dialled;
  }
  dial_([dialled](absl::StatusOr<std::unique_ptr<Link>> link) {
    MutexLock lock(&dialled->mu);
    if (dialled->given_up) return;
    dialled->link = std::make_unique<absl::StatusOr<std::unique_ptr<Link>>>(std::move(link));
    dialled->changed.SignalAll();
  });
  MutexLock lock(&dialled->mu);
  while (dialled->link == nullptr && !dialled->given_up) dialled->changed.Wait(&dialled->mu);
  dialled->given_up = true;
  if (dialled->link == nullptr) return absl::CancelledError("stopping");
  absl::StatusOr<std::unique_ptr<Link>> link = std::move(*dialled->link);
  if (!link.ok()) return link.status();
  return std::shared_ptr<Link>(*std::move(link));
}

absl::Status LinkKeeper::Serve(const std::shared_ptr<Link>& link) {
  {
    MutexLock lock(&mu_);
    link_ = link;
    closed_ = false;
    welcome_ = false;
    refusal_ = absl::OkStatus();
    allowed_silence_ = options_.welcome_timeout;
    last_frame_ = SteadyNow();
  }
  link->Start(this);
  user_->OnUp(link);

  absl::Status why;
  {
    MutexLock lock(&mu_);
    bool closing = false;
    while (!closed_) {
      const absl::Duration left = last_frame_ + allowed_silence_ - SteadyNow();
      if (!closing && (stopping_ || left <= absl::ZeroDuration())) {
        closing = true;
        const absl::Status reason = stopping_ ? absl::CancelledError("stopping")
                                              : absl::UnavailableError(absl::StrCat(
                                                    "nothing was heard for ", absl::FormatDuration(allowed_silence_)));
        mu_.Unlock();
        link->Close(reason);
        mu_.Lock();
      } else if (closing) {
        changed_.Wait(&mu_);
      } else {
        changed_.WaitWithTimeout(&mu_, left);
      }
    }
    link_ = nullptr;
    why = refusal_.ok() ? why_closed_ : refusal_;
    if (welcome_) delay_ = options_.min_delay;
  }
  user_->OnLost();
  return why;
}

void LinkKeeper::SayWhy(const absl::Status& why) {
  std::string text = absl::StrCat(why.message());
  if (text == said_) return;
  said_ = std::move(text);
  Log(LogLevel::kWarning, absl::StrCat("waiting for the controller at ", options_.controller, ": ", said_));
}

absl::Duration LinkKeeper::NextDelay() {
  const double jitter = std::uniform_real_distribution<double>(0.5, 1.0)(random_);
  return std::exchange(delay_, std::min(2 * delay_, options_.max_delay)) * jitter;
}

// ---------------------------------------------------------------- the link's thread

void LinkKeeper::OnFrame(std::string frame) {
  proto::ToWorker message;
  std::shared_ptr<Link> link;
  const bool good = message.ParseFromString(frame);
  {
    MutexLock lock(&mu_);
    last_frame_ = SteadyNow();
    link = link_;
    if (message.has_goodbye()) refusal_ = FromProto(message.goodbye().status());
  }
  if (!good) return link->Close(absl::InvalidArgumentError("the controller sent what is no message"));
  if (message.has_welcome()) {
    link->SetMaxFrameBytes(kMaxControlFrameBytes);
    OnWelcome(message.welcome());
  }
  user_->OnFrame(std::move(message));
}

void LinkKeeper::OnWelcome(const proto::Welcome& welcome) {
  Log(LogLevel::kInfo, absl::StrCat("joined the cluster at ", options_.controller, " as worker ", welcome.worker()));
  MutexLock lock(&mu_);
  welcome_ = true;
  said_.clear();
  if (welcome.heartbeat_timeout_ms() > 0) allowed_silence_ = absl::Milliseconds(welcome.heartbeat_timeout_ms());
  changed_.SignalAll();
}

void LinkKeeper::OnClosed(absl::Status why) {
  MutexLock lock(&mu_);
  closed_ = true;
  why_closed_ = std::move(why);
  changed_.SignalAll();
}

}  // namespace causeway::worker
