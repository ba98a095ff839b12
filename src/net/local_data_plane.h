// The data plane inside one process, for tests and simulations: several planes on one hub. The streams are those of the
// real one (stream_mux.h), down to the bytes; only the sockets are missing.
//
//   ManualExecutor executor;                             // or an IoThread
//   LocalDataHub hub(executor);
//   auto controller = hub.Add(kControllerPeer);
//   auto worker = hub.Add(PeerId{0});
//   controller->SetPeer(PeerId{0}, worker->listen_address(), key);
//   worker->SetPeer(kControllerPeer, controller->listen_address(), key);
//
// Two planes are connected once each has set the other with the same key and the one that dials has a use for it; a
// plane that shows another key is left waiting, as there is no clock here.
//
// Where two planes have several connections, what is written at once arrives in the opposite order: last connection
// first.
//
// Threading: as data_plane.h says; everything happens on the executor, a batch of bytes a task, so that by hand every
// run is the same.
// Lifetime: the executor outlives the hub and the planes; the hub may go before the planes. A plane's destructor ends
// all its streams with CANCELLED, and those of its peers to it with UNAVAILABLE.
#ifndef CAUSEWAY_NET_LOCAL_DATA_PLANE_H_
#define CAUSEWAY_NET_LOCAL_DATA_PLANE_H_

#include <memory>
#include <string>
#include <utility>

#include "net/posted_messages.h"

namespace causeway {

class LocalDataPlane final : public PostedMessagesPlane {
 public:
  ~LocalDataPlane() override { Stop(); }

  // What SetPeer takes: "local:N".
  const std::string& listen_address() const { return listen_address_; }

 private:
  friend class LocalDataHub;
  LocalDataPlane(Executor& executor, std::shared_ptr<PostedMessagesCore> core, std::string listen_address)
      : PostedMessagesPlane(executor, std::move(core)), listen_address_(std::move(listen_address)) {}

  const std::string listen_address_;
};

class LocalDataHub {
 public:
  explicit LocalDataHub(Executor& executor);

  // A process of its own, named `self`; two have as many connections as the one of them that wants fewer. Any thread.
  std::unique_ptr<LocalDataPlane> Add(PeerId self, int connections = 1);

 private:
  struct State;
  Executor& executor_;
  const std::shared_ptr<State> state_;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_LOCAL_DATA_PLANE_H_
