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
    if (connected_) Say({.type = DataType::kFinished, .stream = id});
    return sink->OnDone(why);
  }
  if (total_bytes == 0) return sink->OnDone(absl::OkStatus());
  receiving_.emplace(id, Receiving{.total = total_bytes, .granted = 0, .sink = std::move(sink)});
  Grant(id, window_bytes);
}

void StreamMux::Grant(StreamId id, int64_t bytes) {
  const auto it = receiving_.find(id);
  if (it == receiving_.end()) return;
  Receiving& stream = it->second;
  bytes = std::min(bytes, stream.total - stream.granted);
  if (bytes <= 0) return;
  stream.granted += bytes;
  if (connected_) Say({.type = DataType::kGrant, .stream = id, .value = bytes, .total = stream.total});
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
    if (connected_) SayEnd(DataType::kAbort, id, why);
    ended_.Erase(id);
    return source->OnDone(why);
  }
  const auto granted = early_grants_.find(id);
  if (total_bytes == 0 && granted == early_grants_.end()) return source->OnDone(absl::OkStatus());
  Sending& stream = sending_[id];
  stream.total = total_bytes;
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
  connected_ = true;
  for (Untold& untold : std::exchange(untold_, {})) {
    SayEnd(untold.type, untold.id, untold.why);
    if (untold.type == DataType::kRefuse)
      refused_.Put(untold.id, {.expected = 0, .total = untold.total, .why = untold.why});
  }
  for (const StreamId id : SortedIds(receiving_)) {
    const Receiving& stream = receiving_.at(id);
    if (stream.granted == 0) continue;
    Say({.type = DataType::kGrant, .stream = id, .value = stream.granted, .total = stream.total});
  }
}

void StreamMux::Disconnected(const absl::Status& why) {
  connected_ = false;
  for (const auto& [id, refused] : refused_) TellLater(DataType::kRefuse, id, refused.total, refused.why);
  for (const auto& [id, end] : ended_) {
    if (!end.ok()) TellLater(DataType::kAbort, id, /*total=*/0, end);
  }
  refused_.Clear();
  ended_.Clear();
  early_grants_.clear();
  begin_ = end_ = direct_ = 0;
  payload_ = {};
  control_.clear();
  control_writing_.clear();
  ready_.clear();
  parts_.clear();
  chunks_.clear();
  first_part_ = first_chunk_ = 0;
  rescued_.clear();
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

void StreamMux::SayEnd(DataType type, StreamId id, const absl::Status& why) {
  const absl::string_view reason = why.message().substr(0, kMaxReasonBytes);
  Say({.type = type,
       .length = static_cast<uint32_t>(reason.size()),
       .stream = id,
       .value = static_cast<int64_t>(why.code()),
       .total = static_cast<int64_t>(OriginOf(why))},
      reason);
  if (type == DataType::kAbort) ended_.Put(id, why);
}

// Says how a stream ended, now or on the next connection.
void StreamMux::Tell(DataType type, StreamId id, int64_t total, const absl::Status& why) {
  if (connected_) return SayEnd(type, id, why);
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
  if (payload_.remaining > 0 && !payload_.discard && payload_.id == id) {
    payload_.discard = true;
    payload_.room = {};
  }
  if (say) {
    Tell(DataType::kRefuse, id, stream.total, why);
    if (connected_ && stream.expected < stream.total) {
      refused_.Put(id, {.expected = stream.expected, .total = stream.total, .why = why});
    }
  }
  stream.sink->OnDone(why);
}

// `peer_knows`: the peer has refused the stream, so that only our last word is missing, and nothing answers it.
void StreamMux::EndSend(StreamId id, const absl::Status& why, bool peer_knows) {
  const auto it = sending_.find(id);
  const Sending stream = std::move(it->second);
  sending_.erase(it);
  if (connected_ && stream.in_batch) {
    // The chunk was announced and must be completed, but the source's memory is not ours for longer.
    const auto chunk = std::find_if(chunks_.begin() + first_chunk_, chunks_.end(),
                                    [id](const Chunk& chunk) { return chunk.live && chunk.id == id; });
    chunk->live = false;
    for (size_t part = std::max(chunk->first_part, first_part_); part <= chunk->last_part; ++part) {
      iovec& rest = parts_[part];
      rescued_.emplace_back(static_cast<const char*>(rest.iov_base), rest.iov_len);
      rest.iov_base = rescued_.back().data();
    }
  }
  Tell(DataType::kAbort, id, stream.total, why);
  if (peer_knows) ended_.Erase(id);
  stream.source->OnDone(why);
}

absl::Status StreamMux::Breach(StreamId id, absl::string_view what) const {
  return absl::InvalidArgumentError(
      absl::StrCat(peer_, " breaks the data protocol: ", what, " (stream ", Raw(id), ")"));
}

// ---------------------------------------------------------------- reading

int StreamMux::ReadBuffers(std::array<iovec, 2>& out) {
  int count = 0;
  direct_ = 0;
  // Here payload_.remaining > 0 means that nothing is staged: ParseStaged has used it up.
  if (payload_.remaining > 0 && EnsureRoom()) {
    out[count++] = {payload_.room.data() + payload_.filled, payload_.room.size() - payload_.filled};
  } else if (payload_.remaining > 0) {
    waste_.resize(kWasteBytes);
    out[count++] = {waste_.data(), std::min(waste_.size(), payload_.remaining)};
  }
  if (count > 0) {
    direct_ = out[0].iov_len;
    // What follows the chunk comes with it, unless the sink has to be asked for more room first.
    if (direct_ < payload_.remaining) return count;
  }
  if (begin_ > 0) {
    std::memmove(staging_.data(), staging_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  out[count++] = {staging_.data() + end_, staging_.size() - end_};
  return count;
}

absl::Status StreamMux::Filled(size_t bytes) {
  const size_t direct = std::min(bytes, direct_);
  direct_ = 0;
  if (direct > 0) PayloadCame(direct);
  end_ += bytes - direct;
  return ParseStaged();
}

absl::Status StreamMux::ParseStaged() {
  while (begin_ < end_) {
    if (payload_.remaining > 0) {
      size_t bytes = std::min(end_ - begin_, payload_.remaining);
      if (EnsureRoom()) {
        bytes = std::min(bytes, payload_.room.size() - payload_.filled);
        std::memcpy(payload_.room.data() + payload_.filled, staging_.data() + begin_, bytes);
      }
      begin_ += bytes;
      PayloadCame(bytes);
      continue;
    }
    if (end_ - begin_ < kDataHeaderBytes) return absl::OkStatus();
    ASSIGN_OR_RETURN(const DataHeader header, ParseDataHeader(staging_.data() + begin_));
    const size_t reason_bytes = header.type == DataType::kData ? 0 : header.length;
    if (end_ - begin_ < kDataHeaderBytes + reason_bytes) return absl::OkStatus();
    const absl::string_view reason(staging_.data() + begin_ + kDataHeaderBytes, reason_bytes);
    RETURN_IF_ERROR(Handle(header, reason));
    begin_ += kDataHeaderBytes + reason_bytes;
  }
  return absl::OkStatus();
}

absl::Status StreamMux::Handle(const DataHeader& header, absl::string_view reason) {
  const auto why = [&] {
    return WithOrigin(absl::Status(static_cast<absl::StatusCode>(header.value), reason),
                      static_cast<uint64_t>(header.total));
  };
  switch (header.type) {
    case DataType::kGrant:
      return OnGrant(header);
    case DataType::kData:
      return OnData(header);
    case DataType::kAbort:
      OnAbort(header.stream, why());
      break;
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
    const auto [early, is_new] = early_grants_.try_emplace(id, EarlyGrant{.granted = 0, .total = header.total});
    if (is_new && early_grants_.size() > kMaxRecentStreams) {
      return Breach(id, "it asks for too many streams that nobody sends");
    }
    if (early->second.total != header.total || header.value > header.total - early->second.granted) {
      return Breach(id, "grants that do not fit together");
    }
    early->second.granted += header.value;
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
  Queue(id, stream);
  return absl::OkStatus();
}

absl::Status StreamMux::OnData(const DataHeader& header) {
  const StreamId id = header.stream;
  const int64_t length = header.length;
  payload_ = {.id = id, .discard = true, .offset = header.value, .remaining = header.length};
  if (Refused* const refused = refused_.Find(id)) {
    if (header.value != refused->expected || header.total != refused->total) return Breach(id, "data with a gap");
    refused->expected += length;
    if (refused->expected == refused->total) refused_.Erase(id);
    return absl::OkStatus();
  }
  const auto it = receiving_.find(id);
  if (it == receiving_.end()) return Breach(id, "data of a stream that nobody receives");
  Receiving& stream = it->second;
  if (header.total != stream.total || header.value != stream.expected) return Breach(id, "data with a gap");
  if (length > stream.granted - stream.expected) return Breach(id, "data that were not granted");
  stream.expected += length;
  payload_.discard = false;
  return absl::OkStatus();
}

void StreamMux::OnAbort(StreamId id, const absl::Status& why) {
  if (refused_.Erase(id)) return;
  if (!receiving_.contains(id)) return early_ends_.Put(id, why);
  Say({.type = DataType::kFinished, .stream = id});
  EndReceive(id, why, /*say=*/false);
}

void StreamMux::OnRefuse(StreamId id, const absl::Status& why) {
  if (ended_.Erase(id)) return;
  if (sending_.contains(id)) return EndSend(id, why, /*peer_knows=*/true);
  early_grants_.erase(id);
  early_ends_.Put(id, why);
}

void StreamMux::OnFinished(StreamId id) { ended_.Erase(id); }

// Whether the payload has somewhere to go; otherwise it is dropped.
bool StreamMux::EnsureRoom() {
  if (payload_.discard) return false;
  if (payload_.filled < payload_.room.size()) return true;
  const auto it = receiving_.find(payload_.id);
  payload_.room = it->second.sink->Buffer(payload_.offset, static_cast<int64_t>(payload_.remaining));
  payload_.filled = 0;
  if (!payload_.room.empty() && payload_.room.size() <= payload_.remaining) return true;
  EndReceive(payload_.id,
             absl::InternalError(absl::StrCat("the sink of stream ", Raw(payload_.id), " gave ", payload_.room.size(),
                                              " bytes of room for ", payload_.remaining)),
             /*say=*/true);
  return false;
}

// `bytes` bytes of the chunk are in the room (or wherever dropped bytes go).
void StreamMux::PayloadCame(size_t bytes) {
  payload_.remaining -= bytes;
  if (payload_.discard) return;
  payload_.filled += bytes;
  if (payload_.filled < payload_.room.size()) return;
  const int64_t offset = payload_.offset;
  payload_.offset += static_cast<int64_t>(payload_.filled);
  const auto it = receiving_.find(payload_.id);
  const std::shared_ptr<StreamSink> sink = it->second.sink;
  const bool is_last = payload_.offset == it->second.total;
  sink->OnData(offset, static_cast<int64_t>(payload_.filled));
  payload_.room = {};
  payload_.filled = 0;
  if (!is_last) return;
  receiving_.erase(payload_.id);
  Say({.type = DataType::kFinished, .stream = payload_.id});
  sink->OnDone(absl::OkStatus());
}

// ---------------------------------------------------------------- writing

void StreamMux::Queue(StreamId id, Sending& stream) {
  if (stream.queued || stream.in_batch || stream.sent == stream.granted) return;
  stream.queued = true;
  ready_.push_back(id);
}

absl::Span<const iovec> StreamMux::WriteBuffers() {
  if (first_part_ == parts_.size()) BuildBatch();
  return absl::MakeConstSpan(parts_).subspan(first_part_);
}

// What there is to say, then one chunk of each stream whose turn it is, up to about one chunk's bytes.
void StreamMux::BuildBatch() {
  parts_.clear();
  chunks_.clear();
  first_part_ = first_chunk_ = 0;
  rescued_.clear();
  if (!connected_) return;
  control_writing_.clear();
  control_writing_.swap(control_);
  if (!control_writing_.empty()) parts_.push_back({control_writing_.data(), control_writing_.size()});
  size_t bytes = 0;
  while (!ready_.empty() && chunks_.size() < kChunksPerBatch && bytes < kChunkBytes) {
    const StreamId id = ready_.front();
    ready_.pop_front();
    const auto it = sending_.find(id);
    if (it == sending_.end() || !it->second.queued) continue;
    Sending& stream = it->second;
    stream.queued = false;
    const int64_t most = std::min(kChunkBytes, stream.granted - stream.sent);
    pieces_.clear();
    stream.source->ReadParts(stream.sent, most, kPartsPerChunk, pieces_);
    // The source wakes the stream when it has more.
    if (pieces_.empty()) continue;
    char* const header = headers_[chunks_.size()].data();
    parts_.push_back({header, kDataHeaderBytes});
    Chunk chunk{.id = id, .bytes = 0, .first_part = parts_.size(), .last_part = 0, .live = true};
    for (const absl::Span<const char> piece : pieces_) {
      const size_t length = std::min(piece.size(), static_cast<size_t>(most) - chunk.bytes);
      if (length == 0) break;
      parts_.push_back({const_cast<char*>(piece.data()), length});
      chunk.bytes += length;
    }
    chunk.last_part = parts_.size() - 1;
    WriteDataHeader({.type = DataType::kData,
                     .length = static_cast<uint32_t>(chunk.bytes),
                     .stream = id,
                     .value = stream.sent,
                     .total = stream.total},
                    header);
    chunks_.push_back(chunk);
    bytes += chunk.bytes;
    stream.in_batch = true;
  }
}

void StreamMux::Written(size_t bytes) {
  while (bytes > 0) {
    iovec& part = parts_[first_part_];
    const size_t written = std::min(bytes, part.iov_len);
    part.iov_base = static_cast<char*>(part.iov_base) + written;
    part.iov_len -= written;
    bytes -= written;
    if (part.iov_len > 0) return;
    ++first_part_;
    if (first_chunk_ < chunks_.size() && chunks_[first_chunk_].last_part < first_part_) {
      ChunkWritten(chunks_[first_chunk_++]);
    }
  }
}

void StreamMux::ChunkWritten(const Chunk& chunk) {
  if (!chunk.live) return;
  const auto it = sending_.find(chunk.id);
  Sending& stream = it->second;
  stream.in_batch = false;
  stream.sent += static_cast<int64_t>(chunk.bytes);
  if (stream.sent < stream.total) return Queue(chunk.id, stream);
  const std::shared_ptr<StreamSource> source = std::move(stream.source);
  sending_.erase(it);
  ended_.Put(chunk.id, absl::OkStatus());
  source->OnDone(absl::OkStatus());
}

}  // namespace causeway
