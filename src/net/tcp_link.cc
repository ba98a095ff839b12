#include "net/tcp_link.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <asio/buffer.hpp>
#include <asio/post.hpp>
#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/limits.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "net/frame_reader.h"
#include "net/sockets.h"

namespace causeway {
namespace {

constexpr size_t kReadBytes = 256 << 10;
constexpr int kMaxPieces = 64;  // of one write

absl::Status Vanished(const asio::error_code& error) {
  return absl::UnavailableError(error == asio::error::eof ? "the other side has closed the connection"
                                                          : absl::StrCat("the connection is lost: ", error.message()));
}

// What is left to be written.
class WriteQueue {
 public:
  bool empty() const { return pieces_.empty(); }
  int64_t bytes() const { return bytes_; }

  void Push(std::string piece) {
    bytes_ += static_cast<int64_t>(piece.size());
    if (!piece.empty()) pieces_.push_back(std::move(piece));
  }

  // Writes as much as the socket takes without blocking. UNAVAILABLE: the other side is gone.
  absl::Status Write(int fd) {
    while (!pieces_.empty()) {
      std::array<iovec, kMaxPieces> parts;
      int count = 0;
      for (auto piece = pieces_.begin(); piece != pieces_.end() && count < kMaxPieces; ++piece, ++count) {
        const size_t skip = count == 0 ? done_ : 0;
        parts[count] = iovec{piece->data() + skip, piece->size() - skip};
      }
      absl::Status why;
      const std::optional<size_t> written = SendSome(fd, parts.data(), count, &why);
      if (!written) return why;
      if (*written == 0) break;
      Drop(*written);
    }
    return absl::OkStatus();
  }

 private:
  void Drop(size_t written) {
    bytes_ -= static_cast<int64_t>(written);
    done_ += written;
    while (!pieces_.empty() && done_ >= pieces_.front().size()) {
      done_ -= pieces_.front().size();
      pieces_.pop_front();
    }
  }

  std::deque<std::string> pieces_;
  size_t done_ = 0;  // of the first piece
  int64_t bytes_ = 0;
};

// The connection, held by its pending operations and by the TcpLink.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Socket socket, int64_t max_queue_bytes)
      : socket_(std::move(socket)), max_queue_bytes_(max_queue_bytes), reader_(kMaxHelloBytes), buffer_(kReadBytes) {
    asio::error_code error;
    peer_name_ = PeerNameOf(socket_);
    // What is queued leaves by Write, which must never block.
    socket_.native_non_blocking(true, error);
  }

  void Start(LinkHandler* handler) {
    {
      MutexLock lock(&mu_);
      started_ = true;
      queue_.Push(std::string(kLinkPreamble.data(), kLinkPreamble.size()));
      Flush();
    }
    asio::post(socket_.get_executor(), [self = shared_from_this(), handler] {
      self->handler_ = handler;
      self->Read();
    });
  }

  void Send(std::string frame) {
    MutexLock lock(&mu_);
    if (closing_ || !started_) return;
    const auto header = FrameHeader(static_cast<uint32_t>(frame.size()));
    queue_.Push(std::string(header.data(), header.size()));
    queue_.Push(std::move(frame));
    if (!waiting_) Flush();
    if (queue_.bytes() > max_queue_bytes_) {
      Begin(absl::ResourceExhaustedError(absl::StrCat("the other side does not read: ", queue_.bytes(), " bytes wait for it")));
    }
  }

  void Close(absl::Status why) {
    MutexLock lock(&mu_);
    Begin(std::move(why));
  }

  void SetMaxFrameBytes(int64_t limit_bytes) {
    max_frame_bytes_ = limit_bytes;
  }

  const std::string& peer_name() const { return peer_name_; }

 private:
  // Begins to close: at once after an error, after the queue otherwise.
  void Begin(absl::Status why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (closing_ && (why.ok() || !why_.ok())) return;
    closing_ = true;
    why_ = std::move(why);
    if (why_.ok() && waiting_) return;  // Flush goes on, and shuts down at its end
    Shutdown();
  }

  // Makes the pending read end; OnClosed comes from there.
  void Shutdown() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { shutdown(socket_.native_handle(), SHUT_RDWR); }

  void Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    if (absl::Status gone = queue_.Write(socket_.native_handle()); !gone.ok()) {
      // The read sees it too, and tells the handler.
      closing_ = true;
      why_.Update(gone);
      Shutdown();
      return;
    }
    if (queue_.empty()) {
      if (closing_) Shutdown();
      return;
    }
    waiting_ = true;
    // Sockets' asynchronous calls are made on the io thread only.
    asio::post(socket_.get_executor(), [self = shared_from_this()] {
      self->socket_.async_wait(Socket::wait_write, [self](const asio::error_code& error) {
        MutexLock lock(&self->mu_);
        self->waiting_ = false;
        if (error) return;  // closed
        self->Flush();
      });
    });
  }

  void Read() {
    socket_.async_read_some(asio::buffer(buffer_), [self = shared_from_this()](const asio::error_code& error, size_t n) {
      if (error) return self->Finish(Vanished(error));
      self->reader_.set_max_frame_bytes(self->max_frame_bytes_);
      // Frames that were read after Close are not delivered.
      const absl::Status fed = self->reader_.Feed({self->buffer_.data(), n}, [&](std::string frame) {
        if (!self->IsClosing()) self->handler_->OnFrame(std::move(frame));
      });
      if (!fed.ok()) return self->Finish(fed);
      self->Read();
    });
  }

  bool IsClosing() {
    MutexLock lock(&mu_);
    return closing_;
  }

  void Finish(absl::Status why) {
    {
      MutexLock lock(&mu_);
      if (closing_) why = why_;
      closing_ = true;
      why_ = why;
      asio::error_code ignored;
      socket_.close(ignored);
    }
    std::exchange(handler_, nullptr)->OnClosed(std::move(why));
  }

  Mutex mu_;
  Socket socket_;
  const int64_t max_queue_bytes_;
  std::string peer_name_;
  WriteQueue queue_ ABSL_GUARDED_BY(mu_);
  bool started_ ABSL_GUARDED_BY(mu_) = false;
  bool waiting_ ABSL_GUARDED_BY(mu_) = false;  // for the socket to take more
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status why_ ABSL_GUARDED_BY(mu_);

  std::atomic<int64_t> max_frame_bytes_ = kMaxHelloBytes;

  // Of the io thread only.
  LinkHandler* handler_ = nullptr;
  FrameReader reader_;
  std::vector<char> buffer_;
};

class TcpLink final : public Link {
 public:
  TcpLink(Socket socket, int64_t max_queue_bytes)
      : connection_(std::make_shared<Connection>(std::move(socket), max_queue_bytes)) {}
  ~TcpLink() override { connection_->Close(absl::CancelledError("the link was dropped")); }

  void Start(LinkHandler* handler) override { connection_->Start(handler); }
  void Send(std::string frame) override { connection_->Send(std::move(frame)); }
  void Close(absl::Status why) override { connection_->Close(std::move(why)); }
  void SetMaxFrameBytes(int64_t limit_bytes) override { connection_->SetMaxFrameBytes(limit_bytes); }
  std::string PeerName() const override { return connection_->peer_name(); }

 private:
  const std::shared_ptr<Connection> connection_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LinkListener>> LinkListener::Listen(IoThread* io, const std::string& address,
                                                                   OnLink on_link, int64_t max_queue_bytes) {
  ASSIGN_OR_RETURN(std::shared_ptr<SocketListener> sockets, SocketListener::Listen(io, address));
  sockets->Start([on_link = std::move(on_link), max_queue_bytes](Socket socket) {
    TuneSocket(socket);
    on_link(std::make_unique<TcpLink>(std::move(socket), max_queue_bytes));
  });
  return std::unique_ptr<LinkListener>(new LinkListener(std::move(sockets)));
}

LinkListener::~LinkListener() { sockets_->Stop(); }

const std::string& LinkListener::address() const { return sockets_->address(); }

void DialLink(IoThread* io, const std::string& address, absl::Duration timeout,
              std::function<void(absl::StatusOr<std::unique_ptr<Link>>)> done, int64_t max_queue_bytes) {
  Connect(io, address, timeout, [done = std::move(done), max_queue_bytes](absl::StatusOr<Socket> socket) {
    if (!socket.ok()) return done(socket.status());
    TuneSocket(*socket);
    done(std::make_unique<TcpLink>(*std::move(socket), max_queue_bytes));
  });
}

}  // namespace causeway
