// The engine under load, in this process.

#include "cli/bench_engine.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "chat/value.h"
#include "cli/bench_load.h"
#include "cli/engine_run.h"
#include "cli/kernel_lines.h"
#include "cli/loaded_model.h"
#include "cli/serve_options.h"
#include "cli/served.h"
#include "server/raw_prompts.h"

namespace facet::cli {
namespace {

struct Options {
  ServeOptions serve;
  LoadOptions load;
};

std::vector<int32_t> prompt_of(PlannedRequest& planned, const ServedModel& model) {
  if (!planned.ids.empty()) return std::move(planned.ids);
  if (planned.messages.empty()) return encode_raw(planned.text, Bos::kAdded, model).ids;
  std::vector<int32_t> ids;
  const Value messages = parse_value(planned.messages);
  for (const TokenId id : to_ids(render(messages, nullptr, model.render), model.tokenizer))
    ids.push_back(to_index(id));
  return ids;
}

/// As `serve` makes it of the same request.
Request request_of(PlannedRequest planned, AnswerEnd end, const ServedModel& model) {
  Request request;
  request.max_tokens = planned.max_tokens;
  request.prompt = prompt_of(planned, model);
  request.sampling.temperature = 0;
  request.never_ids = model.never_ids;
  auto& ends = end == AnswerEnd::kAtLength ? request.never_ids : request.end_ids;
  ends.insert(ends.end(), model.end_ids.begin(), model.end_ids.end());
  return request;
}

void bench_engine(const Options& options) {
  const LoadBench bench(options.load);
  LoadedModel loaded(options.serve.model, options.serve.max_running, cache_wish(options.serve));
  loaded.warm_up();
  const std::unique_ptr<ServedModel> model = served_model(options.serve, loaded);
  Engine engine(loaded.model(), loaded.backend(), engine_options(options.serve, loaded));
  LoadTarget target;
  target.name = "engine, in process";
  target.model = options.serve.model.model;
  target.fingerprint = model->fingerprint;
  target.kernels = kernels_json(loaded.kernels());
  target.tokenizer = &model->tokenizer;
  target.run = [&](LoadRun run) {
    EngineRun in_engine;
    for (PlannedRequest& request : run.requests)
      in_engine.requests.push_back(request_of(std::move(request), run.answer_end, *model));
    in_engine.arrivals = std::move(run.arrivals);
    in_engine.concurrency = run.concurrency;
    in_engine.on_progress = std::move(run.on_progress);
    return run_in_engine(engine, std::move(in_engine));
  };
  bench.run(target);
}

}  // namespace

void add_bench_engine(CLI::App& bench, Chosen& chosen) {
  auto options = std::make_shared<Options>();  // shared with the callback, which outlives this call
  CLI::App* command =
      bench.add_subcommand("engine", "The load of bench serve on the engine itself, without HTTP");
  add_model_options(*command, options->serve.model);
  add_engine_options(*command, options->serve);
  add_load_options(*command, options->load);
  command->footer(
      "The same prompts, loads and report as bench serve: what is lost between the two is what "
      "HTTP costs. Ctrl-C prints what is known so far.");
  command->callback([options, &chosen] { chosen = [options] { bench_engine(*options); }; });
}

}  // namespace facet::cli
