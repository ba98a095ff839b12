#include "net/io_thread.h"

#include <pthread.h>

#include <asio/post.hpp>
#include <future>
#include <utility>

namespace causeway {

// The hint says that one thread runs the loop; posting from others stays safe.
IoThread::IoThread(const std::string& name)
    : context_(1), work_(asio::make_work_guard(context_)), thread_([this] { context_.run(); }) {
  pthread_setname_np(thread_.native_handle(), name.substr(0, 15).c_str());
}

IoThread::~IoThread() {
  RunAndWait([this] {
    for (const auto& [key, resident] : std::exchange(residents_, {})) resident->IoEnds();
  });
  context_.stop();
  thread_.join();
}

void IoThread::Post(std::function<void()> task) { asio::post(context_, std::move(task)); }

void IoThread::Add(std::shared_ptr<IoResident> resident) {
  IoResident* const key = resident.get();
  residents_[key] = std::move(resident);
}

void IoThread::Remove(IoResident* resident) { residents_.erase(resident); }

void IoThread::RunAndWait(const std::function<void()>& task) {
  if (std::this_thread::get_id() == thread_.get_id()) {
    task();
    return;
  }
  std::promise<void> done;
  asio::post(context_, [&] {
    task();
    done.set_value();
  });
  done.get_future().wait();
}

}  // namespace causeway
