#include "cli/engine_run.h"

#include <boost/asio/post.hpp>
#include <fmt/core.h>
#include <memory>
#include <optional>
#include <utility>

#include "base/error.h"
#include "traffic/pacer.h"

namespace facet::cli {
namespace {

const char* refusal_text(Refusal refusal) {
  switch (refusal) {
    case Refusal::kQueueFull:
    case Refusal::kQueueTokensFull:
      return "queue full";
    case Refusal::kTooLong:
      return "too long";
    case Refusal::kDraining:
      return "draining";
    case Refusal::kFailed:
      break;
  }
  return "engine failed";
}

/// Notes one request on the engine's thread, until its finish.
class RecordingSink final : public TokenSink {
 public:
  RecordingSink(const Pacer& pacer,
                RequestRecord& record,
                int32_t wanted,
                std::function<void()> ended)
      : pacer_(pacer), record_(record), wanted_(wanted), ended_(std::move(ended)) {}

  void on_start(int32_t cached_tokens,
                std::vector<std::optional<TokenLogprob>> /*prompt_logprobs*/) override {
    record_.cached_tokens = cached_tokens;
  }

  void on_tokens(std::span<const TokenEvent> events) override {
    const double at = pacer_.now_s();
    int32_t tokens = 0;
    for (const TokenEvent& event : events) tokens += event.id >= 0 ? 1 : 0;
    record_.output_tokens += tokens;
    if (tokens > 0) record_.arrivals.push_back({at, tokens});
    for (const TokenEvent& event : events) {
      if (event.finish) finish(at, event);
    }
  }

 private:
  void finish(double at, const TokenEvent& event) {
    switch (*event.finish) {
      case FinishReason::kEndToken:
        record_.end(at, Outcome::kDone);
        break;
      case FinishReason::kLength:
        if (record_.output_tokens == wanted_) {
          record_.end(at, Outcome::kDone);
        } else {
          record_.fail(at, "wrong number of tokens",
                       fmt::format("found {}, wanted {}", record_.output_tokens, wanted_));
        }
        break;
      case FinishReason::kAborted:
        record_.end(at, Outcome::kCut);
        break;
      case FinishReason::kError:
        record_.fail(at, "engine error", event.error);
        break;
      case FinishReason::kTimeout:
        record_.fail(at, "took too long", "");
        break;
    }
    ended_();
  }

  const Pacer& pacer_;
  RequestRecord& record_;
  const int32_t wanted_;
  const std::function<void()> ended_;
};

class Run {
 public:
  Run(Engine& engine, EngineRun run)
      : engine_(engine), run_(std::move(run)), pacer_(std::move(run_.arrivals), run_.concurrency) {
    records_.requests.resize(run_.requests.size());
    handles_.resize(run_.requests.size());
  }

  RunRecords go() {
    pacer_.run({.start = [this](size_t index) { start(index); },
                .interrupt = [this] { interrupt(); },
                .look = {}});
    records_.interrupted = pacer_.interrupted();
    return std::move(records_);
  }

 private:
  void start(size_t index) {
    RequestRecord& record = records_.requests[index];
    Request& request = run_.requests[index];
    record.input_tokens = static_cast<int32_t>(request.prompt.size());
    record.outcome = Outcome::kRunning;
    record.start_s = pacer_.now_s();
    request.sink = std::make_shared<RecordingSink>(pacer_, record, request.max_tokens, [this] {
      boost::asio::post(pacer_.io(), [this] { gone(); });
    });
    try {
      const auto taken = engine_.submit(std::move(request));
      if (const Refusal* refusal = std::get_if<Refusal>(&taken)) {
        fail(record, refusal_text(*refusal), "");
      } else {
        handles_[index] = std::get<RequestHandle>(taken);
      }
    } catch (const Error& error) {
      fail(record, "refused", error.what());
    }
  }

  void fail(RequestRecord& record, const char* failure, const char* detail) {
    record.fail(pacer_.now_s(), failure, detail);
    boost::asio::post(pacer_.io(), [this] { gone(); });  // not while the pacer starts it
  }

  void gone() {
    if (run_.on_progress) run_.on_progress(++ended_);
    pacer_.ended();
  }

  void interrupt() {
    for (const std::optional<RequestHandle>& handle : handles_) {
      if (handle) engine_.cancel(*handle);  // what has ended does not mind
    }
  }

  Engine& engine_;
  EngineRun run_;
  Pacer pacer_;
  RunRecords records_;
  std::vector<std::optional<RequestHandle>> handles_;
  int64_t ended_ = 0;
};

}  // namespace

RunRecords run_in_engine(Engine& engine, EngineRun run) { return Run(engine, std::move(run)).go(); }

}  // namespace facet::cli
