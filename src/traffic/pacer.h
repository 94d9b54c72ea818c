#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

namespace facet {

/// Starts the requests of one run when they are due: at their time of arrival, or later if as many
/// as may be under way are. SIGINT and SIGTERM end the run. Everything happens on the thread that
/// calls run(), but for now_s().
class Pacer {
 public:
  struct Hooks {
    std::function<void(size_t index)> start;  ///< sends a request; ended() must come of it once
    std::function<void()> interrupt;          ///< ends those under way
    std::function<void()> look;               ///< ten times a second; may be empty
  };

  /// `arrivals`: seconds after the beginning, ascending, one per request. `concurrency` 0: any.
  Pacer(std::vector<double> arrivals, int32_t concurrency);

  /// Until every request that was started has ended, and all were, or the run is interrupted.
  void run(const Hooks& hooks);
  /// A request has ended.
  void ended();

  boost::asio::io_context& io() { return io_; }
  bool interrupted() const { return interrupted_; }
  /// Seconds since this was made. Any thread.
  double now_s() const;

 private:
  void start_due();
  void look_again();

  const std::vector<double> arrivals_;
  const int32_t concurrency_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  Hooks hooks_;
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
      io_.get_executor()};
  boost::asio::signal_set signals_;
  boost::asio::steady_timer start_timer_{io_};
  boost::asio::steady_timer look_timer_{io_};
  size_t next_ = 0;  // to be started
  int64_t under_way_ = 0;
  bool interrupted_ = false;
};

}  // namespace facet
