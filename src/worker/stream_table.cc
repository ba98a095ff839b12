#include "worker/stream_table.h"

#include <utility>

namespace causeway::worker {

StreamKey StreamTable::Send(SessionId session, PeerId peer, StreamId id, HostRef source, const ByteRuns& place,
                            Done done) {
  const StreamKey key{++last_key_};
  context_.out->SendStream(key, peer, id, source->key(), place);
  streams_.emplace(key, Stream{session, std::move(source), std::move(done), peer, /*received=*/false,
                               place.total_bytes(), context_.now});
  return key;
}

StreamKey StreamTable::Receive(SessionId session, PeerId peer, StreamId id, HostRef target, const ByteRuns& place,
                               Done done) {
  const StreamKey key{++last_key_};
  context_.out->Receive(key, peer, id, target->key(), place);
  streams_.emplace(key, Stream{session, std::move(target), std::move(done), peer, /*received=*/true,
                               place.total_bytes(), context_.now});
  return key;
}

void StreamTable::OnEnded(const StreamEnded& event) {
  const auto found = streams_.find(event.stream);
  if (found == streams_.end()) return;
  const Stream stream = std::move(found->second);
  streams_.erase(found);
  // Of what workers send one another the sender says when: a receiver is ready long before.
  if (context_.trace.on() && (!stream.received || stream.peer == kControllerPeer)) {
    context_.trace.AddTransfer(stream.peer, stream.received, stream.bytes, stream.session, stream.start, context_.now,
                               !event.status.ok());
  }
  if (stream.done) stream.done(event.status);
}

void StreamTable::Cancel(StreamKey key, const absl::Status& why) {
  if (streams_.erase(key) > 0) context_.out->CancelStream(key, why);
}

void StreamTable::DropSession(SessionId session, const absl::Status& why) {
  std::erase_if(streams_, [&](const auto& entry) {
    if (entry.second.session != session) return false;
    context_.out->CancelStream(entry.first, why);
    return true;
  });
}

void StreamTable::DropAll(const absl::Status& why) {
  for (const auto& [key, stream] : streams_) context_.out->CancelStream(key, why);
  streams_.clear();
}

}  // namespace causeway::worker
