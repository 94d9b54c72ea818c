#include "traffic/http_run.h"

#include <fmt/core.h>
#include <memory>
#include <unordered_map>
#include <utility>

#include "server/http/sse_reader.h"
#include "traffic/answer_reader.h"
#include "traffic/pacer.h"

namespace facet {
namespace {

constexpr size_t kMostErrorBytes = 4096;

/// One request under way.
struct Call {
  explicit Call(RequestRecord& record)
      : reader(record), events([this](std::string_view data) { reader.take(data, now_s); }) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  int status = 0;
  double now_s = 0;  // of the bytes being read
  std::string error_body;
  AnswerReader reader;
  http::SseReader events;
  std::shared_ptr<http::ClientStream> stream;
};

class Run {
 public:
  explicit Run(HttpRun run)
      : run_(std::move(run)), pacer_(std::move(run_.arrivals), run_.concurrency) {
    records_.requests.resize(run_.requests.size());
  }

  RunRecords go() {
    pacer_.run({.start = [this](size_t index) { start(index); },
                .interrupt = [this] { interrupt(); },
                .look = [this] { end_late(); }});
    records_.interrupted = pacer_.interrupted();
    return std::move(records_);
  }

 private:
  void start(size_t index) {
    RequestRecord& record = records_.requests[index];
    record.outcome = Outcome::kRunning;
    record.start_s = pacer_.now_s();
    Call& call = *calls_.emplace(index, std::make_unique<Call>(record)).first->second;
    call.stream = std::make_shared<http::ClientStream>(pacer_.io(), scratch_);
    call.stream->start(run_.endpoint, std::move(run_.requests[index].bytes),
                       {.on_head = [&call](int status) { call.status = status; },
                        .on_body = [this, &call](std::string_view bytes) { take(call, bytes); },
                        .on_end = [this, index](const std::string& fault) { end(index, fault); }});
  }

  void take(Call& call, std::string_view bytes) {
    if (call.status != 200) {
      if (call.error_body.size() < kMostErrorBytes) call.error_body += bytes;
      return;
    }
    call.now_s = pacer_.now_s();
    call.events.push(bytes);
  }

  void end(size_t index, const std::string& fault) {
    judge(*calls_.at(index), records_.requests[index], run_.requests[index].output_tokens, fault);
    gone(index);
  }

  void judge(Call& call, RequestRecord& record, int32_t wanted, const std::string& fault) const {
    const double at = pacer_.now_s();
    call.reader.finish();
    if (call.status == 0) {
      record.fail(at, "no answer", fault);
    } else if (call.status != 200) {
      record.fail(at, fmt::format("status {}", call.status), error_message(call.error_body));
    } else if (!call.reader.error().empty()) {
      record.fail(at, "error event", call.reader.error());
    } else if (!fault.empty() || !call.reader.done()) {
      record.fail(at, "broke off",
                  fmt::format("after {} tokens: {}", record.output_tokens,
                              fault.empty() ? "[DONE] did not come" : fault));
    } else if (wanted > 0 && record.output_tokens != wanted) {
      record.fail(at, "wrong number of tokens",
                  fmt::format("found {}, wanted {}, finish_reason {}", record.output_tokens, wanted,
                              call.reader.finish_reason()));
    } else {
      record.end(at, Outcome::kDone);
    }
  }

  void gone(size_t index) {
    calls_.erase(index);
    if (run_.on_progress) run_.on_progress(++ended_);
    pacer_.ended();
  }

  void interrupt() {
    while (!calls_.empty()) {
      const size_t index = calls_.begin()->first;
      calls_.begin()->second->stream->close();
      records_.requests[index].end(pacer_.now_s(), Outcome::kCut);
      gone(index);
    }
  }

  void end_late() {
    const double at = pacer_.now_s();
    std::vector<size_t> late;
    for (const auto& [index, call] : calls_) {
      if (at - records_.requests[index].start_s > run_.timeout_s) late.push_back(index);
    }
    for (const size_t index : late) {
      calls_.at(index)->stream->close();
      records_.requests[index].fail(at, "took too long", fmt::format("over {} s", run_.timeout_s));
      gone(index);
    }
  }

  HttpRun run_;
  Pacer pacer_;
  RunRecords records_;
  std::vector<char> scratch_ = std::vector<char>(64 << 10);
  std::unordered_map<size_t, std::unique_ptr<Call>> calls_;  // under way, by index
  int64_t ended_ = 0;
};

}  // namespace

RunRecords run_over_http(HttpRun run) { return Run(std::move(run)).go(); }

}  // namespace facet
