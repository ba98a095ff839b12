// One meeting: the devices of this worker that take part in one group of one collective once. When the last one is
// there, it runs; when nothing of it is under way any more, all `done` are called and it is gone.
//
// What it does besides is its kind's: MakeInstance. A kind implements Check and Run, and what follows when parts come.
//
// Threading: Add under the launch's lock; everything else without. Parts come on any thread, several at once.
// Lifetime: held by its launch until it has finished, and by the parts that it waits for.
#ifndef CAUSEWAY_COLLECTIVES_INSTANCE_H_
#define CAUSEWAY_COLLECTIVES_INSTANCE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/mutex.h"
#include "collectives/engine.h"
#include "collectives/layout.h"
#include "collectives/parts.h"
#include "collectives/wire.h"

namespace causeway::collectives {

class Instance;

// Where instances live.
class InstanceHost {
 public:
  virtual ~InstanceHost() = default;
  virtual void Forget(const InstanceId& id) = 0;
};

// What all kinds of instance are made of.
struct InstanceInit {
  InstanceId id;
  std::shared_ptr<Parts> parts;
  InstanceHost* host;  // lives as long as `parts`
  std::shared_ptr<const TableLayouts> layouts;
  const Group* group;
};

class Instance : public PartOwner, public std::enable_shared_from_this<Instance> {
 public:
  explicit Instance(InstanceInit init);

  // INVALID_ARGUMENT: the device is already here. `arrival` is only taken where it is not.
  absl::Status Add(int slot, Arrival& arrival);
  bool complete() const { return arrived_ == group().locals(); }

  // Everybody is there.
  void Start();

  // Somebody is not, and nobody will be any more.
  void GiveUp(const absl::Status& why);

  void PartCame(uint64_t slot, absl::Span<const char> bytes) final;
  void PartInPlace(uint64_t slot) final;
  void PartSent(uint64_t slot) final;
  void PartFailed(const absl::Status& why) final;

 protected:
  // Whether the operands fit; the error says how not. All arrivals have the same shapes.
  virtual absl::Status Check() = 0;
  virtual void Run() = 0;
  virtual void OnCame(uint64_t slot, absl::Span<const char> bytes) = 0;
  virtual void OnInPlace(uint64_t slot) = 0;
  virtual void OnSent(uint64_t /*slot*/) {}

  // The bytes of 0 are sent by not sending them.
  void Send(uint32_t round, uint32_t index, int worker, const Pieces& from, int64_t bytes, uint64_t slot);
  void Expect(uint32_t round, uint32_t index, int worker, const Pieces& into, int64_t bytes, uint64_t slot);
  void ExpectMessage(uint32_t round, uint32_t index, int worker, uint64_t slot);

  // Runs `work`, which touches so many bytes: now, or where nobody waits for it.
  template <typename Work>
  void Later(int64_t bytes, Work work) {
    if (bytes <= options().inline_bytes) return work();
    Hold();
    shared().pool.Add([self = shared_from_this(), work = std::move(work)]() mutable {
      if (!self->failed()) work();
      self->Release();
    });
  }

  // A peer sent what cannot be: the launch ends.
  void Break(const absl::Status& why);

  // Nothing more need be done, as the result is an error.
  bool failed() const { return failed_.load(std::memory_order_relaxed); }

  const proto::Collective& collective() const {
    return layouts_->table().collectives(static_cast<int>(id_.collective));
  }
  const Group& group() const { return *group_; }
  const Arrival& arrival(int slot) const { return arrivals_[slot]; }
  const EngineOptions& options() const { return shared().options; }
  Shared& shared() const { return parts_->shared(); }
  bool ByMessage(int64_t bytes) const { return parts_->ByMessage(bytes); }
  PartId IdOf(uint32_t round, uint32_t index, int worker) const {
    return {.instance = id_, .round = round, .index = index, .peer = group().workers[worker].id};
  }
  absl::Status Error(absl::string_view what) const;

 private:
  void Hold() { holds_.fetch_add(1, std::memory_order_relaxed); }
  void Release();
  void Note(const absl::Status& why);
  void Finish();
  absl::Status CheckShapes() const;

  const InstanceId id_;
  const std::shared_ptr<Parts> parts_;
  InstanceHost* const host_;
  const std::shared_ptr<const TableLayouts> layouts_;
  const Group* const group_;
  absl::InlinedVector<Arrival, 2> arrivals_;  // by slot
  int arrived_ = 0;

  // What is under way: it has finished when nothing is.
  std::atomic<int64_t> holds_{1};
  std::atomic<bool> failed_{false};  // as !status_.ok()
  Mutex mu_;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
};

std::shared_ptr<Instance> MakeInstance(proto::Collective::Kind kind, InstanceInit init);

// "f32[2,3]"
std::string Describe(const Buffer& buffer);

// Of the elements that `dims` describes; all of them at least 0.
int64_t ElementsOf(absl::Span<const int64_t> dims);

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_INSTANCE_H_
