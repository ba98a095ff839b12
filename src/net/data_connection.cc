#include "net/data_connection.h"

#include <algorithm>
#include <asio/post.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/status_macros.h"

namespace causeway {
namespace {

constexpr size_t kMaxEarlyGrants = 1 << 16;
constexpr size_t kMaxCancelled = 4096;
constexpr size_t kWasteBytes = 64 << 10;

// Bytes of one connection before others have their turn.
constexpr size_t kTurnBytes = 8 << 20;

}  // namespace

DataConnection::DataConnection(Socket socket) : socket_(std::move(socket)) {
  asio::error_code ignored;
  socket_.native_non_blocking(true, ignored);
}

void DataConnection::Start(std::string first) {
  if (!first.empty()) Say(std::move(first));
  WaitToRead();
}

// ---------------------------------------------------------------- streams

void DataConnection::Receive(StreamId id, int64_t total_bytes, int64_t window_bytes, std::shared_ptr<StreamSink> sink) {
  if (!open_) return sink->OnDone(absl::UnavailableError("the data connection is lost"));
  if (incoming_.contains(id)) return sink->OnDone(absl::AlreadyExistsError(absl::StrCat("stream ", Raw(id), " is being received")));
  if (total_bytes == 0) return sink->OnDone(absl::OkStatus());
  const int64_t granted = std::min(window_bytes, total_bytes);
  incoming_[id] = Incoming{std::move(sink), total_bytes, 0, granted};
  Say(data_codec::EncodeGrant(id, static_cast<uint64_t>(granted)));
}

void DataConnection::Grant(StreamId id, int64_t bytes) {
  const auto found = incoming_.find(id);
  if (found == incoming_.end() || bytes <= 0) return;
  const int64_t more = std::min(bytes, found->second.total - found->second.granted);
  if (more == 0) return;
  found->second.granted += more;
  Say(data_codec::EncodeGrant(id, static_cast<uint64_t>(more)));
}

void DataConnection::Send(StreamId id, int64_t total_bytes, std::shared_ptr<StreamSource> source) {
  if (!open_) return source->OnDone(absl::UnavailableError("the data connection is lost"));
  if (outgoing_.contains(id)) return source->OnDone(absl::AlreadyExistsError(absl::StrCat("stream ", Raw(id), " is being sent")));
  if (total_bytes == 0) return source->OnDone(absl::OkStatus());
  Outgoing& out = outgoing_[id];
  out.source = std::move(source);
  out.total = total_bytes;
  if (const auto early = early_grants_.find(id); early != early_grants_.end()) {
    const int64_t granted = early->second;
    early_grants_.erase(early);
    if (granted < 0) {  // the receiver has given up already
      const auto refused = std::move(out.source);
      outgoing_.erase(id);
      return refused->OnDone(absl::CancelledError("the receiver does not want it"));
    }
    out.granted = granted;
  }
  MakeReady(id, out);
  Write();
}

void DataConnection::Wake(StreamId id) {
  const auto found = outgoing_.find(id);
  if (found == outgoing_.end()) return;
  MakeReady(id, found->second);
  Write();
}

void DataConnection::Cancel(StreamId id, const absl::Status& status) {
  const absl::Status why = status.ok() ? absl::CancelledError("cancelled") : status;
  if (const auto in = incoming_.find(id); in != incoming_.end()) {
    const std::shared_ptr<StreamSink> sink = std::move(in->second.sink);
    incoming_.erase(in);
    if (cancelled_.insert(id).second) cancelled_order_.push_back(id);
    if (cancelled_order_.size() > kMaxCancelled) {
      cancelled_.erase(cancelled_order_.front());
      cancelled_order_.pop_front();
    }
    Say(data_codec::EncodeCancel(id, why));
    sink->OnDone(why);
    return;
  }
  const auto out = outgoing_.find(id);
  if (out == outgoing_.end()) return;
  const std::shared_ptr<StreamSource> source = std::move(out->second.source);
  if (writing_active_ && writing_.control.empty() && writing_.stream == id) {
    // A chunk that is half written has to be finished: from a copy, since the source's memory goes.
    writing_.control.assign(writing_.header.begin(), writing_.header.end());
    writing_.control.append(writing_.chunk.data(), writing_.chunk.size());
  }
  outgoing_.erase(out);
  Say(data_codec::EncodeCancel(id, why));
  source->OnDone(why);
}

void DataConnection::EndStreams(const absl::Status& why) {
  std::vector<std::shared_ptr<StreamSink>> sinks;
  std::vector<std::shared_ptr<StreamSource>> sources;
  for (auto& [id, in] : incoming_) sinks.push_back(std::move(in.sink));
  for (auto& [id, out] : outgoing_) sources.push_back(std::move(out.source));
  incoming_.clear();
  outgoing_.clear();
  ready_.clear();
  for (const auto& sink : sinks) sink->OnDone(why);
  for (const auto& source : sources) source->OnDone(why);
}

void DataConnection::Close(const absl::Status& why) {
  if (!open_) return;
  open_ = false;
  lost_ = nullptr;
  asio::error_code ignored;
  socket_.close(ignored);
  EndStreams(why);
}

void DataConnection::Break(absl::Status why) {
  if (!open_) return;
  open_ = false;
  asio::error_code ignored;
  socket_.close(ignored);
  EndStreams(absl::UnavailableError(absl::StrCat("the data connection is lost: ", why.message())));
  if (const auto lost = std::exchange(lost_, nullptr)) lost(std::move(why));
}

// ---------------------------------------------------------------- reading

void DataConnection::WaitToRead() {
  socket_.async_wait(Socket::wait_read, [self = shared_from_this()](const asio::error_code& error) {
    if (error || !self->open_) return;
    self->ReadAll();
  });
}

void DataConnection::ReadAll() {
  size_t turn = 0;
  while (open_ && turn < kTurnBytes) {
    absl::Status why;
    const absl::Span<char> place = Place(&why);
    if (place.empty()) return Break(std::move(why));
    const iovec part{place.data(), place.size()};
    const std::optional<size_t> got = ReceiveSome(socket_.native_handle(), &part, 1, &why);
    if (!got) return Break(std::move(why));
    if (*got == 0) break;
    turn += *got;
    if (absl::Status ok = Filled(*got); !ok.ok()) return Break(std::move(ok));
  }
  if (open_) WaitToRead();
}

absl::Span<char> DataConnection::Place(absl::Status* why) {
  if (!in_body_) return absl::MakeSpan(header_bytes_).subspan(header_filled_);
  if (header_.type != data_codec::Type::kData) return absl::MakeSpan(body_).subspan(body_.size() - body_left_);
  const auto in = incoming_.find(header_.stream);
  if (in == incoming_.end()) {
    if (waste_.empty()) waste_.resize(kWasteBytes);
    return absl::MakeSpan(waste_).first(std::min(waste_.size(), body_left_));
  }
  const absl::Span<char> place = in->second.sink->Buffer(in->second.received, static_cast<int64_t>(body_left_));
  if (place.empty()) *why = absl::InternalError("a sink had no room for bytes that it granted");
  return place.first(std::min(place.size(), body_left_));
}

absl::Status DataConnection::Filled(size_t bytes) {
  if (!in_body_) {
    header_filled_ += bytes;
    if (header_filled_ < header_bytes_.size()) return absl::OkStatus();
    header_filled_ = 0;
    return OnHeader();
  }
  body_left_ -= bytes;
  if (body_left_ == 0) in_body_ = false;
  if (header_.type != data_codec::Type::kData) return body_left_ == 0 ? OnControl() : absl::OkStatus();
  const auto found = incoming_.find(header_.stream);
  if (found == incoming_.end()) return absl::OkStatus();  // cancelled meanwhile
  Incoming& in = found->second;
  const int64_t offset = in.received;
  in.received += static_cast<int64_t>(bytes);
  const std::shared_ptr<StreamSink> sink = in.sink;
  const bool whole = in.received == in.total;
  if (whole) incoming_.erase(found);
  sink->OnData(offset, static_cast<int64_t>(bytes));
  if (whole) sink->OnDone(absl::OkStatus());
  return absl::OkStatus();
}

absl::Status DataConnection::OnHeader() {
  ASSIGN_OR_RETURN(header_, data_codec::ParseHeader(header_bytes_));
  in_body_ = true;
  body_left_ = header_.length;
  if (header_.type != data_codec::Type::kData) {
    body_.resize(header_.length);
    return absl::OkStatus();
  }
  const auto in = incoming_.find(header_.stream);
  if (in == incoming_.end()) {
    if (cancelled_.contains(header_.stream)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("data of stream ", Raw(header_.stream), ", which was not granted"));
  }
  if (in->second.received + static_cast<int64_t>(header_.length) > in->second.granted) {
    return absl::InvalidArgumentError(absl::StrCat("more data of stream ", Raw(header_.stream), " than was granted"));
  }
  return absl::OkStatus();
}

absl::Status DataConnection::OnControl() {
  const StreamId id = header_.stream;
  if (header_.type == data_codec::Type::kGrant) {
    constexpr uint64_t kMost = uint64_t{1} << 60;
    const int64_t bytes = static_cast<int64_t>(std::min(data_codec::ParseGrant(body_), kMost));
    const auto out = outgoing_.find(id);
    if (out != outgoing_.end()) {
      out->second.granted = std::min(out->second.granted + bytes, out->second.total);
      MakeReady(id, out->second);
      Write();
      return absl::OkStatus();
    }
    if (early_grants_.size() >= kMaxEarlyGrants) return absl::ResourceExhaustedError("too many grants for streams not sent");
    int64_t& early = early_grants_[id];
    early = std::min(early + bytes, static_cast<int64_t>(kMost));
    return absl::OkStatus();
  }
  const absl::Status why = data_codec::ParseCancel(body_);
  if (const auto in = incoming_.find(id); in != incoming_.end()) {
    const std::shared_ptr<StreamSink> sink = std::move(in->second.sink);
    incoming_.erase(in);
    sink->OnDone(why);
  } else if (const auto out = outgoing_.find(id); out != outgoing_.end()) {
    const std::shared_ptr<StreamSource> source = std::move(out->second.source);
    if (writing_active_ && writing_.control.empty() && writing_.stream == id) {
      writing_.control.assign(writing_.header.begin(), writing_.header.end());
      writing_.control.append(writing_.chunk.data(), writing_.chunk.size());
    }
    outgoing_.erase(out);
    source->OnDone(why);
  } else if (const auto early = early_grants_.find(id); early != early_grants_.end()) {
    early->second = -1;
  }
  return absl::OkStatus();
}

// ---------------------------------------------------------------- writing

void DataConnection::Say(std::string control) {
  if (!open_) return;
  control_.push_back(std::move(control));
  Write();
}

void DataConnection::MakeReady(StreamId id, Outgoing& out) {
  if (out.ready || out.sent >= out.granted) return;
  out.ready = true;
  ready_.push_back(id);
}

bool DataConnection::NextToWrite() {
  writing_.done = 0;
  if (!control_.empty()) {
    writing_.control = std::move(control_.front());
    control_.pop_front();
    writing_active_ = true;
    return true;
  }
  while (!ready_.empty()) {
    const StreamId id = ready_.front();
    ready_.pop_front();
    const auto found = outgoing_.find(id);
    if (found == outgoing_.end()) continue;
    Outgoing& out = found->second;
    out.ready = false;
    const int64_t want = std::min(out.granted - out.sent, kChunkBytes);
    if (want <= 0) continue;
    const absl::Span<const char> chunk = out.source->Read(out.sent, want);
    if (chunk.empty()) continue;  // until Wake
    writing_.control.clear();
    writing_.chunk = chunk.first(std::min<size_t>(chunk.size(), static_cast<size_t>(want)));
    writing_.stream = id;
    writing_.header = data_codec::EncodeHeader({data_codec::Type::kData, static_cast<uint32_t>(writing_.chunk.size()), id});
    writing_active_ = true;
    return true;
  }
  return false;
}

void DataConnection::Written() {
  writing_active_ = false;
  if (!std::exchange(writing_.control, {}).empty()) return;
  const auto found = outgoing_.find(writing_.stream);
  if (found == outgoing_.end()) return;
  Outgoing& out = found->second;
  out.sent += static_cast<int64_t>(writing_.chunk.size());
  if (out.sent < out.total) return MakeReady(writing_.stream, out);
  const std::shared_ptr<StreamSource> source = std::move(out.source);
  outgoing_.erase(found);
  source->OnDone(absl::OkStatus());
}

void DataConnection::Write() {
  // Sources and sinks may call back into here: the outermost call does the writing.
  if (waiting_to_write_) return;
  waiting_to_write_ = true;
  size_t turn = 0;
  bool blocked = false;
  while (open_ && !blocked && turn < kTurnBytes && (writing_active_ || NextToWrite())) {
    iovec parts[2];
    int count = 0;
    size_t total = 0;
    size_t skip = writing_.done;
    const auto add = [&](const char* data, size_t size) {
      total += size;
      if (skip >= size) {
        skip -= size;
        return;
      }
      parts[count++] = iovec{const_cast<char*>(data) + skip, size - skip};
      skip = 0;
    };
    if (writing_.control.empty()) {
      add(writing_.header.data(), writing_.header.size());
      add(writing_.chunk.data(), writing_.chunk.size());
    } else {
      add(writing_.control.data(), writing_.control.size());
    }
    absl::Status why;
    const std::optional<size_t> sent = SendSome(socket_.native_handle(), parts, count, &why);
    if (!sent) {
      waiting_to_write_ = false;
      return Break(std::move(why));
    }
    blocked = *sent == 0;
    turn += *sent;
    writing_.done += *sent;
    if (writing_.done == total) Written();
  }
  if (!open_ || (!blocked && !writing_active_ && control_.empty() && ready_.empty())) {
    waiting_to_write_ = false;
    return;
  }
  socket_.async_wait(Socket::wait_write, [self = shared_from_this()](const asio::error_code& error) {
    self->waiting_to_write_ = false;
    if (!error && self->open_) self->Write();
  });
}

}  // namespace causeway
