#include "tests/fake/fake_server.h"

#include <chrono>
#include <csignal>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "base/process.h"
#include "cli/serve_lifecycle.h"
#include "engine/engine.h"
#include "server/served_model.h"
#include "tests/support.h"
#include "tokenizer/control_tokens.h"

namespace facet::test {
namespace {

constexpr int32_t kMaxModelLen = 8192;

void describe(ServedModel& model, const FakeServed& served) {
  model.end_ids = {to_index(control::kEos), to_index(control::kTurnClose),
                   to_index(control::kToolResponseOpen)};
  for (const ControlToken& token : kControlTokens) {
    const bool never = served.text_only || !token.may_be_sampled();
    if (never && to_index(token.id) < model.tokenizer.size())
      model.never_ids.push_back(to_index(token.id));
  }
  model.vocab_size = model.tokenizer.size();
  model.quantization = "none";
  model.fingerprint = served.fingerprint;
}

EngineOptions engine_options(const cli::ServeOptions& options, const FakeServed& served) {
  EngineOptions engine;
  engine.kv_dtype = DType::kF32;
  engine.page_size = served.page_size;
  engine.pages = {served.pages, served.pages};
  engine.max_model_len = kMaxModelLen;
  engine.max_running = served.max_running;
  engine.max_queue = options.max_queue;
  engine.max_queue_tokens = options.max_queue_tokens;
  engine.prefill_chunk = served.prefill_chunk;
  return engine;
}

}  // namespace

Tokenizer fake_tokenizer() {
  return Tokenizer::load(source_dir() + "/models/fable/tokenizer.json");
}

void serve_fake(Backend& backend, cli::ServeOptions& options, const FakeServed& served) {
  KeyRing keys = cli::check_serve_options(options);
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);
  http::Loop loop(1);
  Service service(loop, options.settings, std::move(keys));
  http::Listener listener(loop, service, options.listen);
  cli::ServeLifecycle lifecycle(loop, service, listener, std::chrono::seconds(options.drain),
                                [] {});
  log_info("serve", "listening url={}", listener.url());
  ServedModel model(fake_tokenizer());
  describe(model, served);
  FakeModelOptions shape = served.model;
  shape.vocab_size = model.vocab_size;
  const auto network = make_fake_model(backend, shape);
  Engine engine(*network, backend, engine_options(options, served));
  model.max_model_len = engine.limits().max_model_len;
  loop.start();
  std::this_thread::sleep_for(std::chrono::duration<double>(served.load_seconds));
  service.serve(model, engine);
  lifecycle.serving(engine);
  print_note("\naddress {}\nready in {} s\n", listener.url(), served.load_seconds);
  const auto end = lifecycle.wait();
  loop.stop();
  if (end == cli::ServeLifecycle::End::kEngineFailed)
    throw Error(ErrorCode::kInternal, "the engine has failed");
}

}  // namespace facet::test
