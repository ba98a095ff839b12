// One launch on this worker: the instances that its devices have got to, and the parts that they exchange with the
// other workers of the gang. It fails once, and then for all.
//
// Threading: thread-safe; `done`s are called without locks.
// Lifetime: the engine holds it until its end; instances and streams that are under way do so, too.
#ifndef CAUSEWAY_COLLECTIVES_LAUNCH_H_
#define CAUSEWAY_COLLECTIVES_LAUNCH_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "base/mutex.h"
#include "collectives/engine.h"
#include "collectives/instance.h"
#include "collectives/layout.h"
#include "collectives/parts.h"

namespace causeway::collectives {

class Launch final : public Parts, public InstanceHost {
 public:
  using Parts::Parts;

  void Arrive(Arrival arrival);

  // As the peers of the gang are told, too.
  void Fail(const absl::Status& why) override;

  // They know, or need not.
  void FailHere(const absl::Status& why) { FailOnce(why); }

  void Forget(const InstanceId& id) override;
  std::string NameOf(uint32_t collective) override;

 private:
  struct Meeting {
    std::shared_ptr<Instance> instance;
    bool started = false;
  };

  bool FailOnce(const absl::Status& why);
  std::shared_ptr<const TableLayouts> LayoutsOf(const std::shared_ptr<const proto::Collectives>& table);
  absl::Status Meet(Arrival& arrival, std::shared_ptr<Instance>& complete);

  Mutex mu_;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const TableLayouts> layouts_ ABSL_GUARDED_BY(mu_);  // of the table last seen
  absl::flat_hash_map<InstanceId, Meeting> meetings_ ABSL_GUARDED_BY(mu_);
};

}  // namespace causeway::collectives

#endif  // CAUSEWAY_COLLECTIVES_LAUNCH_H_
