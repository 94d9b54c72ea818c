#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <vector>

namespace facet::http {

/// One thread on which all connections and answers live, and a few helpers for what would hold it
/// up (parsing and tokenising of large bodies).
class Loop {
 public:
  explicit Loop(int32_t helpers);
  ~Loop();  ///< as stop()
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Before start(): `body` gets what something that runs on one of the threads threw; that
  /// thread does no more. Without it, the process ends.
  void on_fault(std::function<void(std::exception_ptr)> body);
  /// Starts the threads.
  void start();
  /// Ends them after what they are doing now. Not to be called on one of them.
  void stop();

  /// Any thread: `body` runs on the loop's thread, in the order of the calls.
  void post(std::function<void()> body);
  /// Any thread: `body` runs on a helper.
  void in_background(std::function<void()> body);

  /// The loop's thread: `body` runs there when pause() has gone by, or a little earlier together
  /// with others that were told so before it. Dropped by stop().
  void after_pause(std::function<void()> body);
  /// The loop's thread. 1 ms until set.
  void set_pause(std::chrono::milliseconds pause);
  std::chrono::milliseconds pause() const;

  /// Before start(): `body` runs on the loop's thread again and again.
  void every(std::chrono::milliseconds period, std::function<void()> body);
  /// Before start(): `body` runs on the loop's thread when one of the signals arrives.
  void on_signals(const std::vector<int>& signals, std::function<void(int)> body);

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace facet::http
