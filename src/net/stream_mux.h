// The streams between this process and one peer, and the bytes of their connections: what both data planes are made of.
// A state machine without I/O: bytes in, bytes out, sinks and sources in between. The bytes: data_codec.h.
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
// A pair may have several connections, numbered from 0. Number 0 carries what the two sides say; chunks go out on
// whichever connection asks first for something to write, those of one stream on all of them, unless its source or sink
// wants them in order: then on the one that asked first. The caller sees to it that every connection that can be
// written asks when there is something for it (`others_wait`). All connections are lost together.
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
#include "net/arrived_bytes.h"
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
  bool connected() const { return !connections_.empty(); }

  // Streams that have begun here and not ended.
  int open_streams() const { return static_cast<int>(receiving_.size() + sending_.size()); }

  // The most bytes that a stream had which was begun here since the last Disconnected.
  int64_t largest_stream() const { return largest_stream_; }

  // The first connection has been made; both sides' hellos are behind it.
  void Connected();

  // Another one has been added; returns its number.
  int AddConnection();

  // There is no connection any more, or none could be made: all streams end with `why`.
  void Disconnected(const absl::Status& why);

  // Where the next bytes of the connection go: fills one or two of `out` and returns how many. Valid until the next
  // call of anything here.
  int ReadBuffers(std::array<iovec, 2>& out, int connection = 0);

  // The first `bytes` bytes of ReadBuffers have come. INVALID_ARGUMENT: the peer breaks the protocol; the connections
  // are to be closed.
  absl::Status Filled(size_t bytes, int connection = 0);

  // What is to be written next, in this order; empty: nothing. Valid until the next call of anything here.
  absl::Span<const iovec> WriteBuffers(int connection = 0);

  // The first `bytes` bytes of WriteBuffers went out.
  void Written(size_t bytes, int connection = 0);

  // Whether a connection other than this one may have something to write that it has not asked for.
  bool others_wait(int connection) const;

 private:
  static constexpr size_t kStagingBytes = 4096;  // holds the largest header with its reason, and little of the data
  // Together they keep a batch below the 1,024 parts that a system call takes.
  static constexpr size_t kChunksPerBatch = 16;
  static constexpr size_t kPartsPerChunk = 48;

  struct Receiving {
    int64_t total = 0;
    int64_t granted = 0;
    bool in_order = false;  // the sink wants it so
    std::shared_ptr<StreamSink> sink;
    ArrivedBytes announced;  // chunks whose header has come
    ArrivedBytes in_place;
  };
  struct Sending {
    int64_t total;
    int64_t granted = 0;
    int64_t cut = 0;        // into chunks; all of it will be written
    bool queued = false;    // in a queue
    bool in_order = false;  // one chunk at a time, all on connection `on`
    int on = -1;            // -1: on whichever
    int writing = 0;        // chunks in batches
    std::shared_ptr<StreamSource> source;
  };
  // A stream that ended here; what its sender still sends is dropped.
  struct Refused {
    int64_t announced;  // bytes whose header has come
    int64_t total;
    absl::Status why;
  };
  struct EarlyGrant {
    int64_t granted;
    int64_t total;
    bool in_order;
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
    size_t first_part;  // of its bytes, behind the header; index in parts
    size_t last_part;
    bool live;  // false: its stream has ended
  };
  // Streams whose turn comes, each with the number of its turn; may name some that have ended.
  using Turns = std::deque<std::pair<uint64_t, StreamId>>;

  // The bytes of one connection, in both directions.
  struct Connection {
    std::array<char, kStagingBytes> staging;  // [begin, end) has come and is not consumed
    size_t begin = 0;
    size_t end = 0;
    size_t direct = 0;  // of the last ReadBuffers, what goes to the payload
    Payload payload;

    std::string control_writing;  // what is said in this batch
    Turns turns;                  // of the streams that are sent on this connection only
    std::vector<iovec> parts;     // of this batch
    size_t first_part = 0;        // parts before it are written
    std::vector<Chunk> chunks;    // of this batch, in order
    size_t first_chunk = 0;
    std::array<std::array<char, kDataHeaderBytes>, kChunksPerBatch> headers;
    std::deque<std::string> rescued;  // what is still to be written of chunks whose stream has ended
  };

  void Say(const DataHeader& header, absl::string_view reason = {});
  void SayGrant(StreamId id, const Receiving& stream, int64_t bytes);
  void SayEnd(DataType type, StreamId id, int64_t sent, const absl::Status& why);
  void Tell(DataType type, StreamId id, int64_t total, int64_t sent, const absl::Status& why);
  void TellLater(DataType type, StreamId id, int64_t total, const absl::Status& why);
  void Queue(StreamId id, Sending& stream);
  void EndReceive(StreamId id, const absl::Status& why, bool say);
  void EndSend(StreamId id, const absl::Status& why, bool peer_knows);
  absl::Status ParseStaged(Connection& at);
  absl::Status Handle(Connection& at, const DataHeader& header, absl::string_view reason);
  absl::Status OnGrant(const DataHeader& header);
  absl::Status OnData(Connection& at, const DataHeader& header);
  absl::Status OnAbort(StreamId id, int64_t sent, const absl::Status& why);
  void OnRefuse(StreamId id, const absl::Status& why);
  void OnFinished(StreamId id);
  bool EnsureRoom(Payload& payload);
  void PayloadCame(Payload& payload, size_t bytes);
  Sending* NextTurn(Connection& at, StreamId& id);
  void BuildBatch(int connection);
  size_t AddChunk(Connection& at, StreamId id, Sending& stream);
  void ChunkWritten(const Chunk& chunk);
  absl::Status Breach(StreamId id, absl::string_view what) const;

  const std::string peer_;
  absl::flat_hash_map<StreamId, Receiving> receiving_;
  absl::flat_hash_map<StreamId, Sending> sending_;
  int64_t largest_stream_ = 0;
  std::deque<Untold> untold_;  // ends that the peer learns of on the next connection

  // Abort or refuse for a stream that was not begun here. The peer says so once, so it is remembered beyond the
  // connection.
  RecentStreams<absl::Status> early_ends_;

  // All below belongs to one set of connections. What was said and not answered may not have been heard: it is said
  // again on the next one.
  RecentStreams<Refused> refused_;     // refuse said, the sender's last word not heard
  RecentStreams<absl::Status> ended_;  // abort said, or (OK) all sent; the receiver's last not heard
  RecentStreams<int64_t> overtaken_;   // the sender's last word heard, and so many bytes from before it not
  absl::flat_hash_map<StreamId, EarlyGrant> early_grants_;  // for streams that were not begun here

  std::vector<std::unique_ptr<Connection>> connections_;
  std::string control_;  // what is said in the next batch of connection 0
  Turns turns_;          // of the streams that are sent on any connection
  uint64_t last_turn_ = 0;
  std::vector<absl::Span<const char>> pieces_;  // of the chunk that is added to a batch
  std::vector<char> waste_;                     // where dropped bytes go
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_STREAM_MUX_H_
