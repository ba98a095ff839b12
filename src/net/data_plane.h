// The data plane moves bulk bytes between two processes as streams: worker to worker, and worker to or from controller.
//
//   receiver: plane.Receive(peer, stream, total_bytes, window_bytes, sink);
//   sender:   plane.Send(peer, stream, total_bytes, source);       // asks the source for bytes as the receiver grants
//
// Rule of the meeting: nothing is sent that was not granted. Receive grants the first `window_bytes` (all of it if the
// sink has room for all), Grant adds more; Send may come before or after the grant arrives. So no byte ever waits in a
// socket for a receiver that does not know it, and a slow receiver stops its sender and nobody else. Chunks of the
// streams to one peer take turns, so a short stream never waits for a long one.
//
// Two implementations pass one contract suite (data_plane_cts.h): sockets and in-process.
//
// Threading: all calls are thread-safe and do not block. Sinks and sources are called on the plane's threads, one call
// at a time per stream. They may call the plane.
// Lifetime: a sink or source is held until its OnDone, which is called exactly once, whatever happens.
#ifndef CAUSEWAY_NET_DATA_PLANE_H_
#define CAUSEWAY_NET_DATA_PLANE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/ids.h"

namespace causeway {

// A process as the data plane names it: a worker's slot, or the controller.
enum class PeerId : int32_t {};
inline constexpr PeerId kControllerPeer{-1};
constexpr PeerId PeerOf(WorkerId worker) { return PeerId{Raw(worker)}; }

// The largest message, and what may wait to be sent to one peer.
inline constexpr int64_t kMaxMessageBytes = 256 << 10;
inline constexpr int64_t kMaxWaitingMessageBytes = 256 << 20;

// Takes the bytes of one stream.
class StreamSink {
 public:
  virtual ~StreamSink() = default;

  // Where to put the stream's bytes [offset, offset + length): room for at least one byte and at most `length`; what
  // does not fit is asked for again. The memory stays valid until the OnData for it, or OnDone.
  virtual absl::Span<char> Buffer(int64_t offset, int64_t length) = 0;

  // Bytes [offset, offset + length) are in place. Offsets ascend without gaps.
  virtual void OnData(int64_t offset, int64_t length) = 0;

  // True: Buffer may be asked for any part of the stream, in any order, and for the next while others are being filled;
  // OnData then covers one or several of them, or an end of one and more. Its chunks travel on all the connections of
  // the pair. False: each Buffer is followed by its OnData, or part of it, before the next. Asked once.
  virtual bool TakesAnyOrder() const { return false; }

  // OK: all bytes are in place. Otherwise: the sender's error, or UNAVAILABLE when the connection is lost, or
  // CANCELLED.
  virtual void OnDone(absl::Status status) = 0;
};

// Gives the bytes of one stream.
class StreamSource {
 public:
  virtual ~StreamSource() = default;

  // Up to `max_bytes` bytes from `offset` on, without copying; empty when none are there yet: then the source calls
  // DataPlane::Wake later. The memory stays valid until the next Read, or OnDone.
  virtual absl::Span<const char> Read(int64_t offset, int64_t max_bytes) = 0;

  // The same, for bytes that lie scattered: adds up to `max_parts` parts of them to `parts`, in order, which then
  // travel as one chunk. What is more than `max_bytes` is left for the next time.
  virtual void ReadParts(int64_t offset, int64_t max_bytes, size_t max_parts,
                         std::vector<absl::Span<const char>>& parts) {
    if (max_parts == 0) return;
    if (const absl::Span<const char> part = Read(offset, max_bytes); !part.empty()) parts.push_back(part);
  }

  // True: what Read and ReadParts gave stays valid until OnDone. Its chunks travel on all the connections of the pair.
  // Asked once.
  virtual bool KeepsMemory() const { return false; }

  // OK: all bytes were handed to the connection. Otherwise: the receiver's refusal, UNAVAILABLE, or CANCELLED.
  virtual void OnDone(absl::Status status) = 0;
};

// Takes the messages of all peers. Called on the plane's threads, one call at a time for each peer, in the order in
// which they were sent. It may call the plane, and should return soon: the peer's next message waits for it.
class MessageHandler {
 public:
  virtual ~MessageHandler() = default;

  // `message` is only there during the call.
  virtual void OnMessage(PeerId peer, absl::Span<const char> message) = 0;

  // Messages that were sent to `peer`, or by it, since the last OnMessage may be lost: the connection is, or the peer
  // was dropped. What is sent from now on takes a new one.
  virtual void OnMessagesLost(PeerId peer, const absl::Status& why) = 0;
};

class DataPlane {
 public:
  virtual ~DataPlane() = default;

  // Where `peer` is found ("HOST:PORT" or "unix:PATH") and the key that both sides of this pair must show. There is one
  // connection per pair, or a few that come and go together: the side with the higher PeerId dials when it first needs
  // it, the other waits for it (a Receive or Send on both sides is what moves data, so the dialling side always learns
  // of it). A changed address or key drops the old connection and fails its streams.
  virtual void SetPeer(PeerId peer, std::string address, uint64_t key) = 0;

  // Drops the connection; its streams fail with UNAVAILABLE, on the other side too.
  virtual void DropPeer(PeerId peer) = 0;

  // Takes stream `id` of `total_bytes` (0 is allowed: OnDone follows at once) from `peer`. An id that is already being
  // received gives the sink ALREADY_EXISTS; a peer that is not known (any more), UNAVAILABLE.
  virtual void Receive(PeerId peer, StreamId id, int64_t total_bytes, int64_t window_bytes,
                       std::shared_ptr<StreamSink> sink) = 0;

  // Lets the sender of `id` send `bytes` more than before. Unknown streams: ignored.
  virtual void Grant(PeerId peer, StreamId id, int64_t bytes) = 0;

  // Sends stream `id` to `peer`, as far as granted.
  virtual void Send(PeerId peer, StreamId id, int64_t total_bytes, std::shared_ptr<StreamSource> source) = 0;

  // The source of `id` has bytes again.
  virtual void Wake(PeerId peer, StreamId id) = 0;

  // Small messages, for whom a stream's meeting takes too long: at most kMaxMessageBytes, unasked for, in order, never
  // behind bulk data (they have a connection of their own). `parts` are sent as one message and may be changed when
  // this returns. Where that can be done at once it is done on the calling thread. A message to a peer that is not
  // known is dropped, with an OnMessagesLost; where one makes more than kMaxWaitingMessageBytes wait for a slow peer,
  // all that wait are, and the connection is closed. Only workers have messages for each other.
  virtual void SendMessage(PeerId peer, absl::Span<const absl::Span<const char>> parts) = 0;

  // Who takes messages; before it is set, they are dropped. Null: nobody any more; when it returns, none is being
  // called.
  virtual void SetMessageHandler(MessageHandler* handler) = 0;

  // Ends `id`, in whichever direction, on both sides: OnDone(status) here, the same status there. Unknown: ignored.
  virtual void Cancel(PeerId peer, StreamId id, absl::Status status) = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_DATA_PLANE_H_
