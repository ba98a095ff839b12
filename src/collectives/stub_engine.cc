#include "collectives/engine.h"
namespace causeway::collectives {
class Engine::Impl {};
Engine::Engine(DataPlane&) {}
Engine::~Engine() = default;
void Engine::Announce(uint64_t, std::shared_ptr<const Gang>) {}
void Engine::Arrive(Arrival a) { a.done(absl::UnimplementedError("stub")); }
void Engine::Abort(uint64_t, const absl::Status&) {}
Traffic Engine::End(uint64_t) { return {}; }
void Engine::PeerLost(WorkerId, const absl::Status&) {}
void Engine::Reset(const absl::Status&) {}
}
