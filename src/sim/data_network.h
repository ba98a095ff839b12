// The data planes of a simulated cluster: the streams and peers are the real ones (stream_mux.h, plane_core.h), the
// connections between them are simulated.
//
//   DataNetwork network(world, options);
//   auto controller = network.Add(kControllerPeer);
//   auto worker = network.Add(kControllerPeer);          // says who it is by SetSelf
//   controller->SetPeer(PeerId{0}, worker->listen_address(), key);
//   network.Break(controller->listen_address(), worker->listen_address());       // the cable is cut
//
// A connection carries bytes in order, after a delay, cut into pieces of any size, and takes only so many at a time;
// two planes may have several, each with delays of its own, that break together. When it breaks, some of what is in
// flight still arrives, and each side learns of it at its own time. Connecting takes a round trip; a visitor that does
// not show the right key waits a while for its turn. Each plane does what it is asked in the order in which it is
// asked, a little later, as the real one does on its own thread.
//
// Messages between workers take their own time, in order; what breaks the connection of two loses theirs too.
//
// Threading: none; all of it lives in the world. Lifetime: a plane may go at any time, as a process does that is
// killed: its streams end, and its peers learn of it later. The network outlives the planes.
#ifndef CAUSEWAY_SIM_DATA_NETWORK_H_
#define CAUSEWAY_SIM_DATA_NETWORK_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "net/posted_messages.h"
#include "sim/world.h"

namespace causeway::sim {

struct DataNetworkOptions {
  absl::Duration delay = absl::Microseconds(50);        // of bytes, and of learning that a connection is gone
  absl::Duration thread_delay = absl::Microseconds(5);  // until a plane does what it was asked
  absl::Duration patience = absl::Seconds(5);           // with a visitor that is not known (yet)
  absl::Duration redial_delay = absl::Seconds(1);       // as of SocketDataPlaneOptions
  int64_t most_in_flight_bytes = 256 << 10;             // in one direction of one connection
  int connections = 1;                                  // of each pair
};

class SimulatedPlaneCore;

// Runs what is posted in order, each a little after the one before.
class SimulatedExecutor final : public Executor {
 public:
  SimulatedExecutor(World& world, absl::Duration delay) : world_(world), delay_(delay) {}

  void Post(std::function<void()> task) override;
  void RunAndWait(const std::function<void()>& task) override { task(); }

 private:
  World& world_;
  const absl::Duration delay_;
  absl::Time last_ = absl::InfinitePast();
};

class SimulatedDataPlane final : public PostedMessagesPlane {
 public:
  ~SimulatedDataPlane() override { Stop(); }

  // What SetPeer takes.
  const std::string& listen_address() const { return listen_address_; }

  void SetSelf(PeerId self);

  // Streams that have begun and not ended, on this side.
  int open_streams() { return core()->open_streams(); }

 private:
  friend class DataNetwork;
  SimulatedDataPlane(std::unique_ptr<SimulatedExecutor> executor, std::shared_ptr<SimulatedPlaneCore> core,
                     std::string listen_address);

  const std::unique_ptr<SimulatedExecutor> executor_;
  const std::string listen_address_;
};

class DataNetwork {
 public:
  DataNetwork(World& world, DataNetworkOptions options) : world_(world), options_(options) {}

  // A process of its own, named `self`.
  std::unique_ptr<SimulatedDataPlane> Add(PeerId self);

  // Breaks the connection between two planes. False: there is none.
  bool Break(const std::string& a, const std::string& b);

 private:
  friend class SimulatedPlaneCore;

  World& world_;
  const DataNetworkOptions options_;
  int last_address_ = 0;
  std::map<std::string, SimulatedPlaneCore*> planes_;  // by address
};

}  // namespace causeway::sim

#endif  // CAUSEWAY_SIM_DATA_NETWORK_H_
