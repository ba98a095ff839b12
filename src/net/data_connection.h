// One connection of the data plane, and the streams on it. Internal to this folder.
//
// Threading: everything on the IoThread.
// Lifetime: held by shared_ptr; its pending waits hold it too. Close ends it, and is not answered by OnLost.
#ifndef CAUSEWAY_NET_DATA_CONNECTION_H_
#define CAUSEWAY_NET_DATA_CONNECTION_H_

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "net/data_codec.h"
#include "net/data_plane.h"
#include "net/sockets.h"

namespace causeway {

class DataConnection : public std::enable_shared_from_this<DataConnection> {
 public:
  explicit DataConnection(Socket socket);

  // `lost` is called once when the connection breaks; the streams have been ended by then. Before Start.
  void OnLost(std::function<void(absl::Status)> lost) { lost_ = std::move(lost); }

  // Begins to read. `first` is written before anything else: the hello of the side that dialled.
  void Start(std::string first);

  // As in DataPlane.
  void Receive(StreamId id, int64_t total_bytes, int64_t window_bytes, std::shared_ptr<StreamSink> sink);
  void Grant(StreamId id, int64_t bytes);
  void Send(StreamId id, int64_t total_bytes, std::shared_ptr<StreamSource> source);
  void Wake(StreamId id);
  void Cancel(StreamId id, const absl::Status& status);

  // Ends all streams with `why`, and the connection.
  void Close(const absl::Status& why);

 private:
  struct Incoming {
    std::shared_ptr<StreamSink> sink;
    int64_t total = 0;
    int64_t received = 0;
    int64_t granted = 0;
  };
  struct Outgoing {
    std::shared_ptr<StreamSource> source;
    int64_t total = 0;
    int64_t sent = 0;
    int64_t granted = 0;
    bool ready = false;  // in ready_
  };

  // What is being written: whole control messages, or one chunk of a stream.
  struct Writing {
    std::string control;  // empty: a chunk
    std::array<char, data_codec::kHeaderBytes> header;
    absl::Span<const char> chunk;
    StreamId stream{0};
    size_t done = 0;
  };

  void Break(absl::Status why);
  void EndStreams(const absl::Status& why);

  void WaitToRead();
  void ReadAll();
  // Bytes are wanted at the returned place; empty after an error, which is in *why.
  absl::Span<char> Place(absl::Status* why);
  absl::Status Filled(size_t bytes);
  absl::Status OnHeader();
  absl::Status OnControl();

  void Say(std::string control);
  void MakeReady(StreamId id, Outgoing& out);
  void Write();
  bool NextToWrite();
  void Written();

  Socket socket_;
  std::function<void(absl::Status)> lost_;
  bool open_ = true;

  absl::flat_hash_map<StreamId, Incoming> incoming_;
  absl::flat_hash_map<StreamId, Outgoing> outgoing_;
  absl::flat_hash_map<StreamId, int64_t> early_grants_;  // for streams that are not sent yet
  absl::flat_hash_set<StreamId> cancelled_;              // bytes of these may still be on their way
  std::deque<StreamId> cancelled_order_;

  // Reading: a header, then what follows it.
  std::array<char, data_codec::kHeaderBytes> header_bytes_;
  size_t header_filled_ = 0;
  bool in_body_ = false;
  data_codec::Header header_{};
  std::string body_;            // of control messages
  size_t body_left_ = 0;
  std::string waste_;           // where bytes of cancelled streams go

  std::deque<std::string> control_;
  std::deque<StreamId> ready_;
  bool writing_active_ = false;
  Writing writing_;
  bool waiting_to_write_ = false;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_DATA_CONNECTION_H_
