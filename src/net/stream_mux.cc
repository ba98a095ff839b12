#include "net/stream_mux.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/origin.h"
#include "base/status_macros.h"

namespace causeway {
namespace {

constexpr size_t kWasteBytes = 64 << 10;

// Chunks of one stream that have overtaken others, not counting neighbours. Far more than connections hold in flight.
constexpr size_t kMaxIslands = 65536;

template <typename Map>
std::vector<StreamId> SortedIds(const Map& map) {
  std::vector<StreamId> ids;
  ids.reserve(map.size());
  for (const auto& [id, stream] : map) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

// An OK status is no reason to end a stream: whoever gives one means "enough".
absl::Status AsError(const absl::Status& status) {
  return status.ok() ? absl::CancelledError("the stream was cancelled") : status;
}

}  // namespace

// ---------------------------------------------------------------- what users ask

void StreamMux::Receive(StreamId id, int64_t total_bytes, int64_t window_bytes, std::shared_ptr<StreamSink> sink) {
  if (total_bytes < 0) {
    return sink->OnDone(absl::InvalidArgumentError(absl::StrCat("stream ", Raw(id), " of ", total_bytes, " bytes")));
  }
  if (receiving_.contains(id)) {
    return sink->OnDone(
        absl::AlreadyExistsError(absl::StrCat("stream ", Raw(id), " is already being received from ", peer_)));
  }
  if (const absl::Status* early = early_ends_.Find(id)) {
    const absl::Status why = *early;
    early_ends_.Erase(id);
    if (connected()) Say({.type = DataType::kFinished, .stream = id});
    return sink->OnDone(why);
  }
  if (total_bytes == 0) return sink->OnDone(absl::OkStatus());
  largest_stream_ = std::max(largest_stream_, total_bytes);
  Receiving& stream = receiving_[id];
  stream.total = total_bytes;
  stream.in_order = !sink->TakesAnyOrder();
  stream.sink = std::move(sink);
  Grant(id, window_bytes);
}

void StreamMux::Grant(StreamId id, int64_t bytes) {
  const auto it = receiving_.find(id);
  if (it == receiving_.end()) return;
  Receiving& stream = it->second;
  bytes = std::min(bytes, stream.total - stream.granted);
  if (bytes <= 0) return;
  stream.granted += bytes;
  if (connected()) SayGrant(id, stream, bytes);
}

void StreamMux::Send(StreamId id, int64_t total_bytes, std::shared_ptr<StreamSource> source) {
  if (total_bytes < 0) {
    return source->OnDone(absl::InvalidArgumentError(absl::StrCat("stream ", Raw(id), " of ", total_bytes, " bytes")));
  }
  if (sending_.contains(id)) {
    return source->OnDone(
        absl::AlreadyExistsError(absl::StrCat("stream ", Raw(id), " is already being sent to ", peer_)));
  }
  if (const absl::Status* early = early_ends_.Find(id)) {
    const absl::Status why = *early;
    early_ends_.Erase(id);
    if (connected()) SayEnd(DataType::kAbort, id, /*sent=*/0, why);
    ended_.Erase(id);
    return source->OnDone(why);
  }
  const auto granted = early_grants_.find(id);
  if (total_bytes == 0 && granted == early_grants_.end()) return source->OnDone(absl::OkStatus());
  largest_stream_ = std::max(largest_stream_, total_bytes);
  Sending& stream = sending_[id];
  stream.total = total_bytes;
  stream.in_order = !source->KeepsMemory();
  stream.source = std::move(source);
  if (granted == early_grants_.end()) return;
  const EarlyGrant early = granted->second;
  early_grants_.erase(granted);
  if (early.total != total_bytes) {
    return EndSend(id,
                   absl::InvalidArgumentError(absl::StrCat("stream ", Raw(id), " has ", total_bytes,
                                                           " bytes for its sender and ", early.total, " for ", peer_)),
                   /*peer_knows=*/false);
  }
  stream.granted = early.granted;
  stream.in_order |= early.in_order;
  Queue(id, stream);
}

void StreamMux::Wake(StreamId id) {
  const auto it = sending_.find(id);
  if (it != sending_.end()) Queue(id, it->second);
}

void StreamMux::Cancel(StreamId id, const absl::Status& status) {
  const absl::Status why = AsError(status);
  if (receiving_.contains(id)) EndReceive(id, why, /*say=*/true);
  if (sending_.contains(id)) EndSend(id, why, /*peer_knows=*/false);
}

void StreamMux::Connected() {
  connections_.clear();
  connections_.push_back(std::make_unique<Connection>());
  for (Untold& untold : std::exchange(untold_, {})) {
    SayEnd(untold.type, untold.id, /*sent=*/0, untold.why);
    if (untold.type == DataType::kRefuse)
      refused_.Put(untold.id, {.announced = 0, .total = untold.total, .why = untold.why});
  }
  for (const StreamId id : SortedIds(receiving_)) {
    const Receiving& stream = receiving_.at(id);
    if (stream.granted > 0) SayGrant(id, stream, stream.granted);
  }
}

int StreamMux::AddConnection() {
  connections_.push_back(std::make_unique<Connection>());
  // A stream that had all of its chunk on one connection may have the next one on another.
  for (const StreamId id : SortedIds(sending_)) Queue(id, sending_.at(id));
  return static_cast<int>(connections_.size()) - 1;
}

void StreamMux::Disconnected(const absl::Status& why) {
  connections_.clear();
  for (const auto& [id, refused] : refused_) TellLater(DataType::kRefuse, id, refused.total, refused.why);
  for (const auto& [id, end] : ended_) {
    if (!end.ok()) TellLater(DataType::kAbort, id, /*total=*/0, end);
  }
  refused_.Clear();
  ended_.Clear();
  overtaken_.Clear();
  early_grants_.clear();
  control_.clear();
  turns_.clear();
  largest_stream_ = 0;
  for (const StreamId id : SortedIds(receiving_)) EndReceive(id, why, /*say=*/true);
  for (const StreamId id : SortedIds(sending_)) EndSend(id, why, /*peer_knows=*/false);
}

// ---------------------------------------------------------------- how streams end

void StreamMux::Say(const DataHeader& header, absl::string_view reason) {
  const size_t at = control_.size();
  control_.resize(at + kDataHeaderBytes);
  WriteDataHeader(header, control_.data() + at);
  control_.append(reason.data(), reason.size());
}

void StreamMux::SayGrant(StreamId id, const Receiving& stream, int64_t bytes) {
  const uint8_t detail = stream.in_order ? 1 : 0;
  Say({.type = DataType::kGrant, .detail = detail, .stream = id, .value = bytes, .total = stream.total});
}

void StreamMux::SayEnd(DataType type, StreamId id, int64_t sent, const absl::Status& why) {
  const absl::string_view reason = why.message().substr(0, kMaxReasonBytes);
  Say({.type = type,
       .detail = static_cast<uint8_t>(why.code()),
       .length = static_cast<uint32_t>(reason.size()),
       .stream = id,
       .value = sent,
       .total = static_cast<int64_t>(OriginOf(why))},
      reason);
  if (type == DataType::kAbort) ended_.Put(id, why);
}

// Says how a stream ended, now or on the next connection.
void StreamMux::Tell(DataType type, StreamId id, int64_t total, int64_t sent, const absl::Status& why) {
  if (connected()) return SayEnd(type, id, sent, why);
  TellLater(type, id, total, why);
}

void StreamMux::TellLater(DataType type, StreamId id, int64_t total, const absl::Status& why) {
  if (untold_.size() == kMaxRecentStreams) untold_.pop_front();
  untold_.push_back({.type = type, .id = id, .total = total, .why = why});
}

void StreamMux::EndReceive(StreamId id, const absl::Status& why, bool say) {
  const auto it = receiving_.find(id);
  const Receiving stream = std::move(it->second);
  receiving_.erase(it);
  for (const auto& connection : connections_) {
    Payload& payload = connection->payload;
    if (payload.remaining == 0 || payload.discard || payload.id != id) continue;
    payload.discard = true;
    payload.room = {};
  }
  if (say) {
    Tell(DataType::kRefuse, id, stream.total, /*sent=*/0, why);
    if (connected() && stream.announced.bytes() < stream.total) {
      refused_.Put(id, {.announced = stream.announced.bytes(), .total = stream.total, .why = why});
    }
  }
  stream.sink->OnDone(why);
}

// `peer_knows`: the peer has refused the stream, so that only our last word is missing, and nothing answers it.
void StreamMux::EndSend(StreamId id, const absl::Status& why, bool peer_knows) {
  const auto it = sending_.find(id);
  const Sending stream = std::move(it->second);
  sending_.erase(it);
  // Chunks that were announced must be completed, but the source's memory is not ours for longer.
  for (const auto& connection : connections_) {
    if (stream.writing == 0) break;
    for (size_t i = connection->first_chunk; i < connection->chunks.size(); ++i) {
      Chunk& chunk = connection->chunks[i];
      if (!chunk.live || chunk.id != id) continue;
      chunk.live = false;
      for (size_t part = std::max(chunk.first_part, connection->first_part); part <= chunk.last_part; ++part) {
        iovec& rest = connection->parts[part];
        connection->rescued.emplace_back(static_cast<const char*>(rest.iov_base), rest.iov_len);
        rest.iov_base = connection->rescued.back().data();
      }
    }
  }
  Tell(DataType::kAbort, id, stream.total, stream.cut, why);
  if (peer_knows) ended_.Erase(id);
  stream.source->OnDone(why);
}

absl::Status StreamMux::Breach(StreamId id, absl::string_view what) const {
  return absl::InvalidArgumentError(
      absl::StrCat(peer_, " breaks the data protocol: ", what, " (stream ", Raw(id), ")"));
}

// ---------------------------------------------------------------- reading

int StreamMux::ReadBuffers(std::array<iovec, 2>& out, int connection) {
  Connection& at = *connections_[connection];
  Payload& payload = at.payload;
  int count = 0;
  at.direct = 0;
  // Here payload.remaining > 0 means that nothing is staged: ParseStaged has used it up.
  if (payload.remaining > 0 && EnsureRoom(payload)) {
    out[count++] = {payload.room.data() + payload.filled, payload.room.size() - payload.filled};
  } else if (payload.remaining > 0) {
    waste_.resize(kWasteBytes);
    out[count++] = {waste_.data(), std::min(waste_.size(), payload.remaining)};
  }
  if (count > 0) {
    at.direct = out[0].iov_len;
    // What follows the chunk comes with it, unless the sink has to be asked for more room first.
    if (at.direct < payload.remaining) return count;
  }
  if (at.begin > 0) {
    std::memmove(at.staging.data(), at.staging.data() + at.begin, at.end - at.begin);
    at.end -= at.begin;
    at.begin = 0;
  }
  out[count++] = {at.staging.data() + at.end, at.staging.size() - at.end};
  return count;
}

absl::Status StreamMux::Filled(size_t bytes, int connection) {
  Connection& at = *connections_[connection];
  const size_t direct = std::min(bytes, at.direct);
  at.direct = 0;
  if (direct > 0) PayloadCame(at.payload, direct);
  at.end += bytes - direct;
  return ParseStaged(at);
}

absl::Status StreamMux::ParseStaged(Connection& at) {
  Payload& payload = at.payload;
  while (at.begin < at.end) {
    const char* const next = at.staging.data() + at.begin;
    const size_t staged = at.end - at.begin;
    if (payload.remaining > 0) {
      size_t bytes = std::min(staged, payload.remaining);
      if (EnsureRoom(payload)) {
        bytes = std::min(bytes, payload.room.size() - payload.filled);
        std::memcpy(payload.room.data() + payload.filled, next, bytes);
      }
      at.begin += bytes;
      PayloadCame(payload, bytes);
      continue;
    }
    if (staged < kDataHeaderBytes) return absl::OkStatus();
    ASSIGN_OR_RETURN(const DataHeader header, ParseDataHeader(next));
    const size_t reason_bytes = header.type == DataType::kData ? 0 : header.length;
    if (staged < kDataHeaderBytes + reason_bytes) return absl::OkStatus();
    RETURN_IF_ERROR(Handle(at, header, absl::string_view(next + kDataHeaderBytes, reason_bytes)));
    at.begin += kDataHeaderBytes + reason_bytes;
  }
  return absl::OkStatus();
}

absl::Status StreamMux::Handle(Connection& at, const DataHeader& header, absl::string_view reason) {
  const auto why = [&] {
    return WithOrigin(absl::Status(static_cast<absl::StatusCode>(header.detail), reason),
                      static_cast<uint64_t>(header.total));
  };
  if (header.type != DataType::kData && &at != connections_.front().get()) {
    return Breach(header.stream, "it says on another connection what belongs on the first");
  }
  switch (header.type) {
    case DataType::kGrant:
      return OnGrant(header);
    case DataType::kData:
      return OnData(at, header);
    case DataType::kAbort:
      return OnAbort(header.stream, header.value, why());
    case DataType::kRefuse:
      OnRefuse(header.stream, why());
      break;
    case DataType::kFinished:
      OnFinished(header.stream);
      break;
  }
  return absl::OkStatus();
}

absl::Status StreamMux::OnGrant(const DataHeader& header) {
  const StreamId id = header.stream;
  const auto it = sending_.find(id);
  if (it == sending_.end()) {
    if (ended_.Find(id) != nullptr) return absl::OkStatus();
    const auto [early, is_new] =
        early_grants_.try_emplace(id, EarlyGrant{.granted = 0, .total = header.total, .in_order = false});
    if (is_new && early_grants_.size() > kMaxRecentStreams) {
      return Breach(id, "it asks for too many streams that nobody sends");
    }
    if (early->second.total != header.total || header.value > header.total - early->second.granted) {
      return Breach(id, "grants that do not fit together");
    }
    early->second.granted += header.value;
    early->second.in_order |= header.detail == 1;
    return absl::OkStatus();
  }
  Sending& stream = it->second;
  if (header.total != stream.total) {
    EndSend(id,
            absl::InvalidArgumentError(absl::StrCat("stream ", Raw(id), " has ", stream.total,
                                                    " bytes for its sender and ", header.total, " for ", peer_)),
            /*peer_knows=*/false);
    return absl::OkStatus();
  }
  if (header.value > stream.total - stream.granted) return Breach(id, "more is granted than the stream has");
  stream.granted += header.value;
  stream.in_order |= header.detail == 1;
  Queue(id, stream);
  return absl::OkStatus();
}

absl::Status StreamMux::OnData(Connection& at, const DataHeader& header) {
  const StreamId id = header.stream;
  const int64_t length = header.length;
  at.payload = {.id = id, .discard = true, .offset = header.value, .remaining = header.length};
  if (Refused* const refused = refused_.Find(id)) {
    if (header.total != refused->total || length > refused->total - refused->announced) {
      return Breach(id, "more data than the stream has");
    }
    refused->announced += length;
    if (refused->announced == refused->total) refused_.Erase(id);
    return absl::OkStatus();
  }
  const auto it = receiving_.find(id);
  if (it == receiving_.end()) {
    int64_t* const left = overtaken_.Find(id);
    if (left == nullptr || length > *left) return Breach(id, "data of a stream that nobody receives");
    *left -= length;
    if (*left == 0) overtaken_.Erase(id);
    return absl::OkStatus();
  }
  Receiving& stream = it->second;
  if (header.total != stream.total) return Breach(id, "data of a stream of another length");
  if (stream.in_order && header.value != stream.announced.prefix()) return Breach(id, "data with a gap");
  if (header.value + length > stream.granted) return Breach(id, "data that were not granted");
  if (!stream.announced.Add(header.value, header.value + length)) return Breach(id, "data that have come before");
  if (stream.announced.islands() > kMaxIslands) return Breach(id, "data with too many gaps");
  at.payload.discard = false;
  return absl::OkStatus();
}

// `sent` bytes were sent before: what of them has not come is on its way, on another connection.
absl::Status StreamMux::OnAbort(StreamId id, int64_t sent, const absl::Status& why) {
  const Refused* const refused = refused_.Find(id);
  const auto it = receiving_.find(id);
  if (refused == nullptr && it == receiving_.end()) {
    early_ends_.Put(id, why);
    return absl::OkStatus();
  }
  const int64_t announced = refused != nullptr ? refused->announced : it->second.announced.bytes();
  const int64_t most = refused != nullptr ? refused->total : it->second.granted;
  if (sent < announced || sent > most) return Breach(id, "it has sent another number of bytes than it says");
  if (sent > announced) overtaken_.Put(id, sent - announced);
  if (refused_.Erase(id)) return absl::OkStatus();
  Say({.type = DataType::kFinished, .stream = id});
  EndReceive(id, why, /*say=*/false);
  return absl::OkStatus();
}

void StreamMux::OnRefuse(StreamId id, const absl::Status& why) {
  if (ended_.Erase(id)) return;
  if (sending_.contains(id)) return EndSend(id, why, /*peer_knows=*/true);
  early_grants_.erase(id);
  early_ends_.Put(id, why);
}

void StreamMux::OnFinished(StreamId id) { ended_.Erase(id); }

// Whether the payload has somewhere to go; otherwise it is dropped.
bool StreamMux::EnsureRoom(Payload& payload) {
  if (payload.discard) return false;
  if (payload.filled < payload.room.size()) return true;
  const auto it = receiving_.find(payload.id);
  payload.room = it->second.sink->Buffer(payload.offset, static_cast<int64_t>(payload.remaining));
  payload.filled = 0;
  if (!payload.room.empty() && payload.room.size() <= payload.remaining) return true;
  EndReceive(payload.id,
             absl::InternalError(absl::StrCat("the sink of stream ", Raw(payload.id), " gave ", payload.room.size(),
                                              " bytes of room for ", payload.remaining)),
             /*say=*/true);
  return false;
}

// `bytes` bytes of the chunk are in the room (or wherever dropped bytes go).
void StreamMux::PayloadCame(Payload& payload, size_t bytes) {
  payload.remaining -= bytes;
  if (payload.discard) return;
  payload.filled += bytes;
  if (payload.filled < payload.room.size()) return;
  const auto it = receiving_.find(payload.id);
  Receiving& stream = it->second;
  const int64_t offset = payload.offset;
  payload.offset += static_cast<int64_t>(payload.filled);
  payload.room = {};
  payload.filled = 0;
  const int64_t told = stream.in_place.prefix();
  stream.in_place.Add(offset, payload.offset);
  const int64_t in_place = stream.in_place.prefix();
  if (in_place == told) return;  // bytes before these are still missing
  const std::shared_ptr<StreamSink> sink = stream.sink;
  sink->OnData(told, in_place - told);
  if (in_place < stream.total) return;
  receiving_.erase(it);
  Say({.type = DataType::kFinished, .stream = payload.id});
  sink->OnDone(absl::OkStatus());
}

// ---------------------------------------------------------------- writing

void StreamMux::Queue(StreamId id, Sending& stream) {
  if (stream.queued || stream.cut == stream.granted) return;
  if (stream.writing > 0 && (stream.in_order || connections_.size() == 1)) return;
  stream.queued = true;
  (stream.on < 0 ? turns_ : connections_[stream.on]->turns).emplace_back(++last_turn_, id);
}

bool StreamMux::others_wait(int connection) const {
  if (connections_.size() < 2) return false;
  if (!turns_.empty() || (connection != 0 && !control_.empty())) return true;
  for (size_t i = 0; i < connections_.size(); ++i) {
    if (i != static_cast<size_t>(connection) && !connections_[i]->turns.empty()) return true;
  }
  return false;
}

absl::Span<const iovec> StreamMux::WriteBuffers(int connection) {
  if (static_cast<size_t>(connection) >= connections_.size()) return {};
  const Connection& at = *connections_[connection];
  if (at.first_part == at.parts.size()) BuildBatch(connection);
  return absl::MakeConstSpan(at.parts).subspan(at.first_part);
}

// The stream whose turn it is on this connection; null: none.
StreamMux::Sending* StreamMux::NextTurn(Connection& at, StreamId& id) {
  while (!at.turns.empty() || !turns_.empty()) {
    const bool own = turns_.empty() || (!at.turns.empty() && at.turns.front().first < turns_.front().first);
    Turns& turns = own ? at.turns : turns_;
    id = turns.front().second;
    turns.pop_front();
    const auto it = sending_.find(id);
    if (it == sending_.end() || !it->second.queued) continue;
    it->second.queued = false;
    return &it->second;
  }
  return nullptr;
}

// What there is to say, then one chunk of each stream whose turn it is, up to about one chunk's bytes.
void StreamMux::BuildBatch(int connection) {
  Connection& at = *connections_[connection];
  at.parts.clear();
  at.chunks.clear();
  at.first_part = at.first_chunk = 0;
  at.rescued.clear();
  at.control_writing.clear();
  if (connection == 0) at.control_writing.swap(control_);
  if (!at.control_writing.empty()) at.parts.push_back({at.control_writing.data(), at.control_writing.size()});
  size_t bytes = 0;
  StreamId id{0};
  while (at.chunks.size() < kChunksPerBatch && bytes < kChunkBytes) {
    Sending* const stream = NextTurn(at, id);
    if (stream == nullptr) break;
    bytes += AddChunk(at, id, *stream);
    if (stream->writing > 0 && stream->in_order) stream->on = connection;
  }
  // The next chunks of these may go out on other connections meanwhile.
  for (const Chunk& chunk : at.chunks) Queue(chunk.id, sending_.at(chunk.id));
}

// Adds the next chunk of the stream to the batch; returns its bytes. 0: the source has none, and wakes the stream when
// it has.
size_t StreamMux::AddChunk(Connection& at, StreamId id, Sending& stream) {
  const int64_t most = std::min(kChunkBytes, stream.granted - stream.cut);
  pieces_.clear();
  stream.source->ReadParts(stream.cut, most, kPartsPerChunk, pieces_);
  if (pieces_.empty()) return 0;
  char* const header = at.headers[at.chunks.size()].data();
  at.parts.push_back({header, kDataHeaderBytes});
  Chunk chunk{.id = id, .bytes = 0, .first_part = at.parts.size(), .last_part = 0, .live = true};
  for (const absl::Span<const char> piece : pieces_) {
    const size_t length = std::min(piece.size(), static_cast<size_t>(most) - chunk.bytes);
    if (length == 0) break;
    at.parts.push_back({const_cast<char*>(piece.data()), length});
    chunk.bytes += length;
  }
  chunk.last_part = at.parts.size() - 1;
  WriteDataHeader({.type = DataType::kData,
                   .length = static_cast<uint32_t>(chunk.bytes),
                   .stream = id,
                   .value = stream.cut,
                   .total = stream.total},
                  header);
  at.chunks.push_back(chunk);
  stream.cut += static_cast<int64_t>(chunk.bytes);
  ++stream.writing;
  return chunk.bytes;
}

void StreamMux::Written(size_t bytes, int connection) {
  Connection& at = *connections_[connection];
  while (bytes > 0) {
    iovec& part = at.parts[at.first_part];
    const size_t written = std::min(bytes, part.iov_len);
    part.iov_base = static_cast<char*>(part.iov_base) + written;
    part.iov_len -= written;
    bytes -= written;
    if (part.iov_len > 0) return;
    ++at.first_part;
    if (at.first_chunk < at.chunks.size() && at.chunks[at.first_chunk].last_part < at.first_part) {
      ChunkWritten(at.chunks[at.first_chunk++]);
    }
  }
}

void StreamMux::ChunkWritten(const Chunk& chunk) {
  if (!chunk.live) return;
  const auto it = sending_.find(chunk.id);
  Sending& stream = it->second;
  --stream.writing;
  if (stream.cut < stream.total) return Queue(chunk.id, stream);
  if (stream.writing > 0) return;
  const std::shared_ptr<StreamSource> source = std::move(stream.source);
  sending_.erase(it);
  ended_.Put(chunk.id, absl::OkStatus());
  source->OnDone(absl::OkStatus());
}

}  // namespace causeway
