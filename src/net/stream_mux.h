// The streams between this process and one peer, and the bytes of their one connection: what both data planes are made
// of. A state machine without I/O: bytes in, bytes out, sinks and sources in between. The bytes: data_codec.h.
//
//   StreamMux mux("worker 3");
//   mux.Send(id, total, source);
//   mux.Connected();
//   while (...) {
//     mux.Filled(readv(fd, in, mux.ReadBuffers(in)));        // straight into the sinks' memory
//     absl::Span<const iovec> out = mux.WriteBuffers();      // straight from the sources' memory
//     mux.Written(writev(fd, out.data(), out.size()));
//   }
//
// Streams may be asked for without a connection: they wait for one. A stream that ends here while there is none (or
// with it) is told to the peer on the next one, and again on later ones until the peer has answered, so that the peer's
// end, whenever it is begun, does not wait for ever. An id is used for one stream, once.
//
// Threading: one caller at a time. Sinks and sources are called from within any method and must not call back into the
// mux (the planes see to that: what a sink asks of a plane is posted).
// Cost: no allocation for each chunk; one memory copy of the few bytes that come with a header.
#ifndef CAUSEWAY_NET_STREAM_MUX_H_
#define CAUSEWAY_NET_STREAM_MUX_H_

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "net/data_codec.h"
#include "net/data_plane.h"
#include "net/recent_streams.h"

namespace causeway {

class StreamMux {
 public:
  // `peer` is for messages to people.
  explicit StreamMux(std::string peer) : peer_(std::move(peer)) {}

  // As data_plane.h says.
  void Receive(StreamId id, int64_t total_bytes, int64_t window_bytes, std::shared_ptr<StreamSink> sink);
  void Grant(StreamId id, int64_t bytes);
  void Send(StreamId id, int64_t total_bytes, std::shared_ptr<StreamSource> source);
  void Wake(StreamId id);
  void Cancel(StreamId id, const absl::Status& status);

  // Whether there is a stream, or the end of one to be told.
  bool WantsConnection() const { return !receiving_.empty() || !sending_.empty() || !untold_.empty(); }
  bool connected() const { return connected_; }

  // Streams that have begun here and not ended.
  int open_streams() const { return static_cast<int>(receiving_.size() + sending_.size()); }

  // A connection has been made; both sides' hellos are behind it.
  void Connected();

  // There is no connection any more, or none could be made: all streams end with `why`.
  void Disconnected(const absl::Status& why);

  // Where the next bytes of the connection go: fills one or two of `out` and returns how many. Valid until the next
  // call of anything here.
  int ReadBuffers(std::array<iovec, 2>& out);

  // The first `bytes` bytes of ReadBuffers have come. INVALID_ARGUMENT: the peer breaks the protocol; the connection is
  // to be closed.
  absl::Status Filled(size_t bytes);

  // What is to be written next, in this order; empty: nothing. Valid until the next call of anything here.
  absl::Span<const iovec> WriteBuffers();

  // The first `bytes` bytes of WriteBuffers went out.
  void Written(size_t bytes);

 private:
  static constexpr size_t kStagingBytes = 4096;  // holds the largest header with its reason, and little of the data
  // Together they keep a batch below the 1,024 parts that a system call takes.
  static constexpr size_t kChunksPerBatch = 16;
  static constexpr size_t kPartsPerChunk = 48;

  struct Receiving {
    int64_t total;
    int64_t granted;
    int64_t expected = 0;  // offset of the next chunk
    std::shared_ptr<StreamSink> sink;
  };
  struct Sending {
    int64_t total;
    int64_t granted = 0;
    int64_t sent = 0;
    bool queued = false;    // in ready_
    bool in_batch = false;  // a chunk of it is being written
    std::shared_ptr<StreamSource> source;
  };
  // A stream that ended here; what its sender still sends is dropped.
  struct Refused {
    int64_t expected;
    int64_t total;
    absl::Status why;
  };
  struct EarlyGrant {
    int64_t granted;
    int64_t total;
  };
  struct Untold {
    DataType type;  // kAbort or kRefuse
    StreamId id;
    int64_t total;
    absl::Status why;
  };
  // The chunk that is being read.
  struct Payload {
    StreamId id{0};
    bool discard = false;
    int64_t offset = 0;  // of the next byte that is not in place
    size_t remaining = 0;
    absl::Span<char> room;  // given by the sink; the first `filled` bytes are in place
    size_t filled = 0;
  };
  struct Chunk {
    StreamId id;
    size_t bytes;
    size_t first_part;  // of its bytes, behind the header; index in parts_
    size_t last_part;
    bool live;  // false: its stream has ended
  };

  void Say(const DataHeader& header, absl::string_view reason = {});
  void SayEnd(DataType type, StreamId id, const absl::Status& why);
  void Tell(DataType type, StreamId id, int64_t total, const absl::Status& why);
  void TellLater(DataType type, StreamId id, int64_t total, const absl::Status& why);
  void Queue(StreamId id, Sending& stream);
  void EndReceive(StreamId id, const absl::Status& why, bool say);
  void EndSend(StreamId id, const absl::Status& why, bool peer_knows);
  absl::Status ParseStaged();
  absl::Status Handle(const DataHeader& header, absl::string_view reason);
  absl::Status OnGrant(const DataHeader& header);
  absl::Status OnData(const DataHeader& header);
  void OnAbort(StreamId id, const absl::Status& why);
  void OnRefuse(StreamId id, const absl::Status& why);
  void OnFinished(StreamId id);
  bool EnsureRoom();
  void PayloadCame(size_t bytes);
  void BuildBatch();
  void ChunkWritten(const Chunk& chunk);
  absl::Status Breach(StreamId id, absl::string_view what) const;

  const std::string peer_;
  bool connected_ = false;
  absl::flat_hash_map<StreamId, Receiving> receiving_;
  absl::flat_hash_map<StreamId, Sending> sending_;
  std::deque<Untold> untold_;  // ends that the peer learns of on the next connection

  // Abort or refuse for a stream that was not begun here. The peer says so once, so it is remembered beyond the
  // connection.
  RecentStreams<absl::Status> early_ends_;

  // All below belongs to one connection. What was said and not answered may not have been heard: it is said again on
  // the next one.
  RecentStreams<Refused> refused_;     // refuse said, the sender's last word not heard
  RecentStreams<absl::Status> ended_;  // abort said, or (OK) all sent; the receiver's last not heard
  absl::flat_hash_map<StreamId, EarlyGrant> early_grants_;  // for streams that were not begun here

  std::array<char, kStagingBytes> staging_;  // [begin_, end_) has come and is not consumed
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t direct_ = 0;  // of the last ReadBuffers, what goes to the payload
  Payload payload_;
  std::vector<char> waste_;  // where dropped bytes go

  std::string control_;                         // messages that wait for the next batch
  std::string control_writing_;                 // those of this batch
  std::deque<StreamId> ready_;                  // streams whose turn comes; may name some that have ended
  std::vector<iovec> parts_;                    // of this batch
  size_t first_part_ = 0;                       // parts before it are written
  std::vector<Chunk> chunks_;                   // of this batch, in order
  std::vector<absl::Span<const char>> pieces_;  // of the chunk that is added to it
  size_t first_chunk_ = 0;
  std::array<std::array<char, kDataHeaderBytes>, kChunksPerBatch> headers_;
  std::deque<std::string> rescued_;  // what is still to be written of chunks whose stream has ended
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_STREAM_MUX_H_
