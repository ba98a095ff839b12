// Futures: what an array waits for, and who waits for arrays.
//
// One future stands for one thing that happens: a launch (all outputs on all its devices share it), or the making of
// one array. So the controller's work per launch does not grow with devices.
//
//   auto future = std::make_shared<Future>(/*parts=*/2, request, out);     // two workers will report
//   future->AddWait(wait);
//   future->PartDone(status, out);                           // twice: resolves, and answers whoever waits
//
// Threading: none of its own; lives in the controller core.
#ifndef CAUSEWAY_CONTROLLER_FUTURE_H_
#define CAUSEWAY_CONTROLLER_FUTURE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/origin.h"
#include "controller/events.h"

namespace causeway {

// A request that waits for several futures. Answered when the last one resolves, with the first error.
struct Wait {
  // Answers now, whatever is still missing.
  void Fail(const absl::Status& error, ControllerActions& out) {
    if (remaining == 0) return;
    remaining = 0;
    out.ReplyDone(request, error);
  }

  RequestHeader request;
  std::vector<ArrayId> arrays;  // what is waited for
  int remaining = 0;            // 0: answered
  absl::Status status;
};

class Future {
 public:
  // Resolves after `parts` reports; with 0, at once. Its error gets the origin of `maker`, unless it came with one.
  Future(int parts, const RequestHeader& maker, ControllerActions& out)
      : parts_(parts), session_(maker.session), origin_(maker.origin) {
    if (!done() && origin_ != 0) out.OriginOpened(session_, origin_);
  }

  bool done() const { return parts_ == 0; }

  // What it stands for is data that arrive, not a launch.
  bool is_make() const { return is_make_; }
  void SetMake() { is_make_ = true; }

  // So many pieces of what this makes are still with the client; it has sent one of them.
  void ExpectFromClient(int pieces) { with_client_ = pieces; }
  void ClientSent() { --with_client_; }

  // What this makes is made of what `source` makes.
  void ComesFrom(const std::shared_ptr<Future>& source) {
    if (source->done()) return;
    if (source->with_client_ > 0) sources_.push_back(source);
    for (const std::shared_ptr<Future>& far : source->sources_) {
      if (far->AwaitsClient()) sources_.push_back(far);
    }
  }

  // Some of it, or of what it is made of, is still with the client, which may stand still.
  bool AwaitsClient() const {
    if (done()) return false;
    return with_client_ > 0 ||
           std::any_of(sources_.begin(), sources_.end(), [](const auto& source) { return source->AwaitsClient(); });
  }

  // The first error reported, so far.
  const absl::Status& status() const { return status_; }

  // Its maker's origin, for an error that comes of something else while this is pending. That error stays, also where
  // this ends well: the origin counts as failed from now on.
  uint64_t LendOrigin() {
    lent_ = true;
    return origin_;
  }

  // When it is, or was, expected to be done. InfinitePast: nobody knows.
  void Expect(absl::Time when) { expected_ = when; }
  absl::Time expected() const { return expected_; }

  // Counts one report. Reports after the last one are ignored: a failure may have overtaken them.
  void PartDone(const absl::Status& status, ControllerActions& out) {
    if (done()) return;
    status_.Update(WithOrigin(status, origin_));
    if (--parts_ == 0) Answer(out);
  }

  // Resolves now, whatever is still missing.
  void Fail(const absl::Status& status, ControllerActions& out) {
    if (done()) return;
    status_.Update(WithOrigin(status, origin_));
    parts_ = 0;
    Answer(out);
  }

  // Before it is done().
  void AddWait(std::shared_ptr<Wait> wait) { waits_.push_back(std::move(wait)); }

  // Empty once it is done().
  const std::vector<std::shared_ptr<Wait>>& waits() const { return waits_; }

 private:
  void Answer(ControllerActions& out) {
    if (origin_ != 0) out.OriginClosed(session_, origin_, /*failed=*/lent_ || OriginOf(status_) == origin_);
    for (const std::shared_ptr<Wait>& wait : std::exchange(waits_, {})) {
      if (wait->remaining == 0) continue;  // failed meanwhile
      wait->status.Update(status_);
      if (--wait->remaining == 0) out.ReplyDone(wait->request, wait->status);
    }
  }

  int parts_;
  const SessionId session_;
  const uint64_t origin_;
  bool lent_ = false;
  bool is_make_ = false;
  int with_client_ = 0;
  std::vector<std::shared_ptr<Future>> sources_;  // that had something with the client; these have no sources
  absl::Time expected_ = absl::InfinitePast();
  absl::Status status_;
  std::vector<std::shared_ptr<Wait>> waits_;  // empty once done
};

}  // namespace causeway

#endif  // CAUSEWAY_CONTROLLER_FUTURE_H_
