// Keeps a link to the controller: dials, watches that the other side lives, dials again, for ever.
//
//   LinkKeeper keeper(dial, options, &user);     // user: OnUp(link), OnFrame(message), OnLost(), and so on
//
// Between attempts it waits min_delay, doubled each time up to max_delay, with jitter, so that the workers of a cluster
// do not come back all at once. Only a Welcome starts the delays anew: a controller that refuses us is not pressed
// either. What the devices still do of an old link's work is waited for before the next one is made, so that a worker
// comes back with nothing; a launch cannot be broken off, so after old_work_patience the user is told that it is stuck.
//
// Threading: one thread of its own waits, and calls OnUp and OnLost; OnFrame is called on the link's thread, between
// the two, the first perhaps before OnUp has returned. Lifetime: the destructor closes the link, calls OnLost if it was
// up, and joins.
#ifndef CAUSEWAY_WORKER_LINK_KEEPER_H_
#define CAUSEWAY_WORKER_LINK_KEEPER_H_

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "net/link.h"
#include "proto/control.pb.h"

namespace causeway::worker {

// Begins to connect; the function it is given is called once, from any thread, or never when the process ends first.
using Dial = std::function<void(std::function<void(absl::StatusOr<std::unique_ptr<Link>>)>)>;

struct LinkKeeperOptions {
  std::string controller;  // its address, for messages to people
  absl::Duration min_delay = absl::Milliseconds(100);
  absl::Duration max_delay = absl::Seconds(2);
  absl::Duration welcome_timeout = absl::Seconds(10);  // for the answer to our Hello
  absl::Duration old_work_patience = absl::Seconds(3);
};

class LinkUser {
 public:
  virtual ~LinkUser() = default;

  // A link is there, and started: the Hello is to be sent. Ends with one OnLost.
  virtual void OnUp(std::shared_ptr<Link> link) = 0;
  virtual void OnFrame(proto::ToWorker message) = 0;
  virtual void OnLost() = 0;

  // Nothing that was begun goes on any more.
  virtual bool IsIdle() = 0;

  // It has not become idle in time since OnLost. If this returns, the next link is made all the same.
  virtual void OnStuck() = 0;
};

class LinkKeeper final : private LinkHandler {
 public:
  // Starts at once. `user` must outlive this.
  LinkKeeper(Dial dial, LinkKeeperOptions options, LinkUser* user);
  ~LinkKeeper() override;

 private:
  // What a call of the dial function, which may outlive this, writes to.
  struct Dialled {
    Mutex mu;
    CondVar changed;
    std::unique_ptr<absl::StatusOr<std::unique_ptr<Link>>> link ABSL_GUARDED_BY(mu);
    bool given_up ABSL_GUARDED_BY(mu) = false;
  };

  void Keep();
  absl::StatusOr<std::shared_ptr<Link>> Connect();

  // Returns why the link ended.
  absl::Status Serve(const std::shared_ptr<Link>& link);
  void SayWhy(const absl::Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Duration NextDelay();

  void OnFrame(std::string frame) override;
  void OnClosed(absl::Status why) override;
  void OnWelcome(const proto::Welcome& welcome);

  const Dial dial_;
  const LinkKeeperOptions options_;
  LinkUser* const user_;

  Mutex mu_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::shared_ptr<Dialled> dialling_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<Link> link_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status why_closed_ ABSL_GUARDED_BY(mu_);
  absl::Status refusal_ ABSL_GUARDED_BY(mu_);  // the controller's Goodbye
  bool welcome_ ABSL_GUARDED_BY(mu_) = false;
  absl::Duration allowed_silence_ ABSL_GUARDED_BY(mu_);
  absl::Time last_frame_ ABSL_GUARDED_BY(mu_);
  std::string said_ ABSL_GUARDED_BY(mu_);  // so that each reason is told once

  // Of the thread only.
  absl::Duration delay_;
  std::minstd_rand random_{std::random_device{}()};

  std::thread thread_;
};

}  // namespace causeway::worker

#endif  // CAUSEWAY_WORKER_LINK_KEEPER_H_
