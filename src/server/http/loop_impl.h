#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <list>
#include <thread>
#include <vector>

#include "server/http/loop.h"

namespace facet::http {

/// What the files of this folder share of the loop.
struct Loop::Impl {
  explicit Impl(int32_t helpers_in) : helper_count(helpers_in) {}

  const int32_t helper_count;
  boost::asio::io_context io{1};
  boost::asio::io_context background;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> io_work{
      io.get_executor()};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> background_work{
      background.get_executor()};
  boost::asio::steady_timer pause_timer{io};
  std::vector<std::function<void()>> after_pause;  // of the loop's thread, as is pause
  std::chrono::milliseconds pause{1};
  std::list<boost::asio::steady_timer> timers;
  std::list<boost::asio::signal_set> signals;
  std::vector<std::thread> threads;
  std::function<void(std::exception_ptr)> on_fault;  // constant once the threads run
};

}  // namespace facet::http
