#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "server/answer.h"
#include "server/api_error.h"
#include "server/http/loop.h"
#include "server/http/message.h"
#include "server/server_meters.h"

namespace facet {

/// One request between the engine and its client: passes tokens from the engine's thread to the
/// loop's, has them written, and sees to it that there is exactly one end, whatever happens.
class LiveRequest : public std::enable_shared_from_this<LiveRequest> {
 public:
  using Clock = std::chrono::steady_clock;

  struct Origin {
    std::string request_id;
    std::vector<http::Field> fields;  ///< for the head of the answer
    Clock::time_point arrival;
    ServerMeters* meters = nullptr;  ///< what it is counted in; nullptr: a probe, not counted
  };

  LiveRequest(Engine& engine,
              http::Loop& loop,
              Prepared prepared,
              std::shared_ptr<http::Exchange> exchange,
              Origin origin);

  /// Hands the prompts to the engine, all or none. Answers by itself if the engine refuses. `ended`
  /// is called once, when no more will come of it. Like all but the sink, on the loop's thread.
  void begin(std::function<void(LiveRequest&)> ended);
  /// Ends it with an error, unless it has ended.
  void fail(const ApiError& error);
  /// Nobody reads its answer any more.
  void gone();
  /// Ends it with finish_reason "abort".
  void abort();
  /// Is `id` what the client may name it by: its own id, or the header's?
  bool is_named(std::string_view id) const { return id == log_id_ || id == origin_.request_id; }
  /// Sends a comment if it is a stream that has been silent for `period`.
  void ping(Clock::time_point now, std::chrono::seconds period);

 private:
  class Sink;
  struct Message {  // from the engine: a start, or an event
    int32_t prompt = 0;
    bool is_start = false;
    int32_t cached_tokens = 0;
    std::vector<std::optional<TokenLogprob>> prompt_logprobs;
    TokenEvent event;
    Clock::time_point at;  // when the engine told of it
  };

  void receive(std::vector<Message> messages);  // the engine's thread
  void drain();
  void drain_inbox();
  std::vector<Message> take_inbox();
  void take(const Message& message);
  void count(const Message& message, int32_t choice);
  bool submit();
  void cancel_all();
  void complete();
  void end(int32_t status, std::string_view reason);
  void log(int32_t status, std::string_view reason) const;

  Engine& engine_;
  http::Loop& loop_;
  const std::unique_ptr<Answer> answer_;
  const bool stream_;
  const std::string log_id_;
  const std::optional<uint64_t> drawn_seed_;
  const std::shared_ptr<http::Exchange> exchange_;
  const Origin origin_;
  std::vector<Request> requests_;  // until they are submitted
  int32_t choices_per_prompt_ = 1;

  // Owned by the loop's thread.
  std::function<void(LiveRequest&)> ended_;
  std::vector<RequestHandle> handles_;
  std::vector<int32_t> prompt_tokens_;          // by prompt; 0 once they are counted
  std::vector<Clock::time_point> last_tokens_;  // by choice; when the engine told of its last token
  std::vector<bool> done_;                      // by choice
  size_t left_ = 0;                             // choices that are not done
  bool over_ = false;
  bool streaming_ = false;
  std::optional<Clock::time_point> first_token_;
  Clock::time_point last_write_;
  Clock::time_point last_drain_;  // that found something
  bool pausing_ = false;          // drain() will run after a pause

  std::mutex mu_;
  std::vector<Message> inbox_;  // guarded by mu_
  bool scheduled_ = false;      // guarded by mu_: drain() will run
};

}  // namespace facet
