#include "net/data_connection.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"

namespace causeway {
namespace {

// What one connection moves in one direction before the others of the I/O thread get their turn.
constexpr size_t kBytesPerTurn = 4 << 20;

}  // namespace

DataConnection::DataConnection(IoThread& io, Socket socket)
    : socket_(std::move(socket)), fd_(socket_.native_handle()), peer_name_(PeerNameOf(socket_)), timer_(io.context()) {
  TuneSocket(socket_);
  EnlargeUnixBuffers(socket_);
}

absl::Status DataConnection::SayHello(const DataHello& hello) {
  std::array<char, kDataHelloBytes> bytes;
  WriteDataHello(hello, bytes.data());
  const iovec part{bytes.data(), bytes.size()};
  absl::Status why;
  const std::optional<size_t> sent = SendSome(fd_, &part, 1, &why);
  if (!sent.has_value()) return why;
  // Nothing was sent before, so there is room for it in any socket.
  return *sent == bytes.size() ? absl::OkStatus() : absl::UnavailableError("the socket takes no bytes");
}

void DataConnection::HearHello(absl::Duration timeout, std::function<void(absl::StatusOr<DataHello>)> heard) {
  heard_ = std::move(heard);
  After(timeout, [this, timeout] {
    Heard(absl::UnavailableError(absl::StrCat("it said nothing within ", absl::FormatDuration(timeout))));
  });
  AwaitReadable(&DataConnection::ReadHello);
}

void DataConnection::After(absl::Duration delay, std::function<void()> then) {
  timer_.expires_after(absl::ToChronoNanoseconds(delay));
  timer_.async_wait([self = shared_from_this(), then = std::move(then), wait = ++wait_](asio::error_code error) {
    if (!error && self->wait_ == wait) then();
  });
}

void DataConnection::StopTimer() {
  ++wait_;
  timer_.cancel();
}

void DataConnection::AwaitReadable(void (DataConnection::*then)()) {
  socket_.async_wait(Socket::wait_read, [self = shared_from_this(), then](asio::error_code error) {
    if (!error && !self->closed_) (self.get()->*then)();
  });
}

void DataConnection::ReadHello() {
  if (heard_ == nullptr) return;
  const iovec part{hello_.data() + hello_bytes_, hello_.size() - hello_bytes_};
  absl::Status why;
  const std::optional<size_t> received = ReceiveSome(fd_, &part, 1, &why);
  if (!received.has_value()) return Heard(why);
  hello_bytes_ += *received;
  if (hello_bytes_ < hello_.size()) return AwaitReadable(&DataConnection::ReadHello);
  Heard(ParseDataHello(hello_.data()));
}

void DataConnection::Heard(absl::StatusOr<DataHello> hello) {
  StopTimer();
  if (const auto heard = std::exchange(heard_, nullptr)) heard(std::move(hello));
}

void DataConnection::Attach(StreamMux* mux, int number, std::function<void(absl::Status)> lost,
                            std::function<void()> others_wait) {
  StopTimer();
  mux_ = mux;
  number_ = number;
  lost_ = std::move(lost);
  others_wait_ = std::move(others_wait);
  AwaitReadable(&DataConnection::ReadStreams);
  Flush();
}

void DataConnection::ReadStreams() {
  for (size_t turn = 0; turn < kBytesPerTurn;) {
    std::array<iovec, 2> room;
    const int count = mux_->ReadBuffers(room, number_);
    const size_t most = room[0].iov_len + (count == 2 ? room[1].iov_len : 0);
    absl::Status why;
    const std::optional<size_t> received = ReceiveSome(fd_, room.data(), count, &why);
    if (!received.has_value()) return Lost(why);
    if (*received == 0) break;
    if (const absl::Status breach = mux_->Filled(*received, number_); !breach.ok()) return Lost(breach);
    turn += *received;
    if (*received < most) break;
  }
  FlushAll();
  if (!closed_) AwaitReadable(&DataConnection::ReadStreams);
}

void DataConnection::FlushAll() {
  Flush();
  if (!closed_ && mux_->others_wait(number_)) others_wait_();
}

void DataConnection::Flush() {
  // Before Attach it has no streams.
  if (closed_ || awaits_writable_ || mux_ == nullptr) return;
  for (size_t turn = 0; turn < kBytesPerTurn;) {
    const absl::Span<const iovec> parts = mux_->WriteBuffers(number_);
    if (parts.empty()) return;
    absl::Status why;
    const std::optional<size_t> sent = SendSome(fd_, parts.data(), static_cast<int>(parts.size()), &why);
    if (!sent.has_value()) return Lost(why);
    if (*sent == 0) break;
    mux_->Written(*sent, number_);
    turn += *sent;
  }
  awaits_writable_ = true;
  socket_.async_wait(Socket::wait_write, [self = shared_from_this()](asio::error_code error) {
    self->awaits_writable_ = false;
    if (!error) self->FlushAll();
  });
}

void DataConnection::Lost(const absl::Status& why) {
  const auto lost = std::exchange(lost_, nullptr);
  Close();
  if (lost != nullptr) lost(why);
}

absl::StatusOr<int> DataConnection::Release() {
  closed_ = true;
  StopTimer();
  asio::error_code error;
  const int fd = socket_.release(error);
  if (error) return absl::UnavailableError(error.message());
  return fd;
}

void DataConnection::Close() {
  closed_ = true;
  heard_ = nullptr;
  lost_ = nullptr;
  StopTimer();
  asio::error_code ignored;
  socket_.close(ignored);
}

}  // namespace causeway
