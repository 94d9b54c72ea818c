#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/load/hash_server.h"
#include "tests/load/swarm.h"

namespace facet::test {

/// Sends a request again and again with pauses, and keeps how long each answer took.
class Asker {
 public:
  Asker(Swarm& swarm, std::string request, double pause)
      : peer_(swarm.connect()), request_(std::move(request)), pause_(pause) {
    peer_->on_answer = [this](Peer& peer) {
      if (peer.answer().status() == 200) times_.push_back(seconds_since(peer.sent_at()));
      waiting_ = false;
      answered_ = Swarm::Clock::now();
    };
  }
  void go_on() {
    if (waiting_ || seconds_since(answered_) < pause_) return;
    waiting_ = true;
    ++asked_;
    peer_->send(request_);
  }
  /// Those since the last call.
  std::vector<double> take() { return std::exchange(times_, {}); }
  int64_t asked() const { return asked_; }

 private:
  const std::shared_ptr<Peer> peer_;
  const std::string request_;
  const double pause_;
  bool waiting_ = false;
  int64_t asked_ = 0;
  Swarm::Clock::time_point answered_;
  std::vector<double> times_;
};

}  // namespace facet::test
