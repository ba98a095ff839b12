// One Asio event loop and the one thread that runs it: links and the data plane
// do their waiting and call their handlers here, so what belongs to one loop
// needs no locks of its own.
//
//   IoThread io("links");
//   auto listener = LinkListener::Listen(&io, "127.0.0.1:0", {}, on_link);
//
// Threading: every method may be called from any thread; the destructor from
// any but the loop's own. Lifetime: outlives all that was made on it. Links
// must be closed, and their OnClosed seen, before it is destroyed: it drops
// what is still pending without calling it.
#ifndef CAUSEWAY_NET_IO_THREAD_H_
#define CAUSEWAY_NET_IO_THREAD_H_

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <functional>
#include <string>
#include <thread>

#include "net/executor.h"

namespace causeway {

class IoThread final : public Executor {
public:
  // `name` is what debuggers and `top -H` show (the first 15 bytes).
  explicit IoThread(const std::string &name);
  ~IoThread() override;
  IoThread(const IoThread &) = delete;
  IoThread &operator=(const IoThread &) = delete;

  asio::io_context &context() { return context_; }

  void Post(std::function<void()> task) override;

  void RunAndWait(const std::function<void()> &task) override;

private:
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
};

} // namespace causeway

#endif // CAUSEWAY_NET_IO_THREAD_H_
