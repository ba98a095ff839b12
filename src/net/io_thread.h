// One Asio event loop and the one thread that runs it: links and the data plane do their waiting and call their
// handlers here, so what belongs to one loop needs no locks of its own.
//
//   IoThread io("links");
//   ASSIGN_OR_RETURN(auto listener, LinkListener::Listen(&io, "127.0.0.1:0", on_link));
//
// Threading: every method may be called from any thread unless it says otherwise; the destructor from any but the
// loop's own. Lifetime: the destructor tells the residents, runs what they still have to do, and drops what is posted
// after that.
#ifndef CAUSEWAY_NET_IO_THREAD_H_
#define CAUSEWAY_NET_IO_THREAD_H_

// Before Asio's own: by these it decides how it allocates, and every file must decide the same.
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>

#include "absl/container/flat_hash_map.h"
#include "net/executor.h"

namespace causeway {

// Something on an I/O thread that has to end before the thread does.
class IoResident {
 public:
  virtual ~IoResident() = default;

  // Called on the thread, as the last thing there: closes what uses the loop.
  virtual void IoEnds() = 0;
};

class IoThread final : public Executor {
 public:
  // `name` is what debuggers and `top -H` show (the first 15 bytes).
  explicit IoThread(const std::string& name);
  ~IoThread() override;
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  asio::io_context& context() { return context_; }

  void Post(std::function<void()> task) override;

  void RunAndWait(const std::function<void()>& task) override;

  // Holds `resident` until it is removed. On the thread only.
  void Add(std::shared_ptr<IoResident> resident);
  void Remove(IoResident* resident);

 private:
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  absl::flat_hash_map<IoResident*, std::shared_ptr<IoResident>> residents_;  // touched on the thread only
  std::thread thread_;
};

}  // namespace causeway

#endif  // CAUSEWAY_NET_IO_THREAD_H_
