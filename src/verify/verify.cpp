#include "verify/verify.h"

#include <algorithm>
#include <span>

#include "base/check.h"
#include "engine/stepper.h"
#include "verify/random_context.h"
#include "verify/teacher.h"

namespace facet {
namespace {

/// How the ids of a sequence are dealt out to steps.
std::vector<int32_t> step_rows(const VerifyPlan& plan) {
  const auto count = static_cast<int32_t>(plan.ids.size());
  const int32_t decodes = std::min(plan.decodes, count - 1);
  std::vector<int32_t> rows;
  for (int32_t left = count - decodes; left > 0; left -= rows.back()) {
    rows.push_back(std::min(left, plan.chunk));
  }
  rows.insert(rows.end(), static_cast<size_t>(decodes), 1);
  return rows;
}

/// Room for the sequence from position 0 `starts` times, and for the one after the context.
KvCache make_cache(const VerifySide& side, const VerifyPlan& plan, int32_t starts) {
  const std::vector<KvGroupSpec> groups = side.model.kv_groups(plan.page_size, plan.kv_dtype);
  const auto ids = static_cast<int64_t>(plan.ids.size());
  std::vector<int32_t> pages;
  for (const KvGroupSpec& group : groups) {
    int32_t count = starts * KvCache::pages_for(group, ids, plan.chunk);
    if (plan.context > 0) {
      count += KvCache::pages_for(group, plan.context + ids, std::max(plan.chunk, kContextStep));
    }
    pages.push_back(count);
  }
  return {groups, pages, side.backend.allocator()};
}

std::vector<float> copy_of(TensorView view) {
  const auto values = view.as<float>();
  return {values.begin(), values.end()};
}

/// Keeps the stream after the final norm.
class LastHidden final : public StepObserver {
 public:
  explicit LastHidden(int32_t layers) : layers_(layers) {}
  void hidden(int32_t layer, TensorView x) override {
    if (layer == layers_) values = copy_of(x);
  }
  void routing(int32_t /*layer*/, const Routing& /*routing*/) override {}
  void per_layer_inputs(TensorView /*ple*/) override {}

  std::vector<float> values;

 private:
  const int32_t layers_;
};

class LockStep {
 public:
  LockStep(const VerifySide& ref,
           const VerifySide& fast,
           const VerifyPlan& plan,
           const std::function<void(int64_t)>& progress)
      : ref_(ref),
        plan_(plan),
        ref_cache_(make_cache(ref, plan, 1)),
        fast_cache_(make_cache(fast, plan, 2)),
        ref_stepper_(ref.model, ref_cache_),
        fast_stepper_(fast.model, fast_cache_),
        each_layer_([this, &progress] { progress(++layers_done_); }) {
    report_.layers.resize(static_cast<size_t>(ref.model.config().num_hidden_layers));
    open(ref_cache_, ref_slots_);
    open(fast_cache_, fast_slots_);
    free_slot_ = fast_cache_.open();
    if (plan.context == 0) return;
    fill_random_context({ref, ref_cache_, ref_slots_[1]}, {fast, fast_cache_, fast_slots_[1]},
                        plan.context);
  }

  VerifyReport run() {
    std::span<const int32_t> left = plan_.ids;
    for (const int32_t rows : step_rows(plan_)) {
      step(left.first(static_cast<size_t>(rows)));
      left = left.subspan(static_cast<size_t>(rows));
    }
    return std::move(report_);
  }

 private:
  void open(KvCache& cache, std::vector<CacheSlot>& slots) const {
    slots.push_back(cache.open());
    if (plan_.context > 0) slots.push_back(cache.open());
  }

  static TensorView feed(Stepper& stepper,
                         std::span<const CacheSlot> slots,
                         std::span<const int32_t> ids,
                         StepObserver& observer) {
    std::vector<SequenceStep> steps;
    for (const CacheSlot slot : slots) {
      CHECK(stepper.cache().reserve(slot, static_cast<int32_t>(ids.size())), "no room for {} rows",
            ids.size());
      steps.push_back({slot, ids, LogitRows::kAll});
    }
    return stepper.run(steps, &observer);
  }

  std::vector<int32_t> positions_of(size_t rows) const {
    std::vector<int32_t> positions;
    for (const CacheSlot slot : ref_slots_) {
      for (size_t i = 0; i < rows; ++i) {
        positions.push_back(ref_cache_.length(slot) + static_cast<int32_t>(i));
      }
    }
    return positions;
  }

  void step(std::span<const int32_t> ids) {
    const std::vector<int32_t> positions = positions_of(ids.size());
    StepRecord record(report_.layers.size());
    Recorder recorder(ref_.model, ref_.backend, record, each_layer_);
    const std::vector<float> wanted = copy_of(feed(ref_stepper_, ref_slots_, ids, recorder));

    Teacher teacher(ref_.model.weights(), record, positions, plan_.tie, report_);
    const TensorView found = feed(fast_stepper_, fast_slots_, ids, teacher);
    report_.logits.merge(compare(
        Rows{.found = found.as<float>(), .wanted = wanted, .before = {}, .positions = positions}));
    step_freely(ids, record.hidden.back(), wanted, std::span(positions).first(ids.size()));
  }

  /// The sequence from position 0 once more, without a teacher. `hidden` and `logits` begin with
  /// its rows.
  void step_freely(std::span<const int32_t> ids,
                   std::span<const float> hidden,
                   std::span<const float> logits,
                   std::span<const int32_t> positions) {
    LastHidden last(static_cast<int32_t>(report_.layers.size()));
    const TensorView view = feed(fast_stepper_, {&free_slot_, 1}, ids, last);
    const std::span<const float> found = view.as<float>();
    const std::span<const float> wanted = logits.first(found.size());
    FreeReport& report = report_.free;
    report.hidden.merge(compare(Rows{.found = last.values,
                                     .wanted = hidden.first(last.values.size()),
                                     .before = {},
                                     .positions = positions}));
    report.logits.merge(
        compare(Rows{.found = found, .wanted = wanted, .before = {}, .positions = positions}));
    const size_t width = found.size() / ids.size();
    const auto best = [width](std::span<const float> all, size_t row) {
      const auto values = all.subspan(row * width, width);
      return std::max_element(values.begin(), values.end()) - values.begin();
    };
    for (size_t row = 0; row < ids.size(); ++row) {
      ++report.rows;
      report.same_best += best(found, row) == best(wanted, row) ? 1 : 0;
    }
  }

  const VerifySide ref_;
  const VerifyPlan& plan_;
  KvCache ref_cache_;
  KvCache fast_cache_;
  Stepper ref_stepper_;
  Stepper fast_stepper_;
  std::vector<CacheSlot> ref_slots_;  // from position 0; after the context, if there is one
  std::vector<CacheSlot> fast_slots_;
  CacheSlot free_slot_{};
  int64_t layers_done_ = 0;
  const std::function<void()> each_layer_;
  VerifyReport report_;
};

}  // namespace

int64_t reference_layers(const gemma4::Gemma4Config& config, const VerifyPlan& plan) {
  return std::ssize(step_rows(plan)) * int64_t{config.num_hidden_layers};
}

VerifyReport run_verify(const VerifySide& ref,
                        const VerifySide& fast,
                        const VerifyPlan& plan,
                        const std::function<void(int64_t)>& progress) {
  CHECK(!plan.ids.empty() && plan.chunk > 0 && plan.context >= 0, "{} ids, chunk {}, context {}",
        plan.ids.size(), plan.chunk, plan.context);
  return LockStep(ref, fast, plan, progress).run();
}

}  // namespace facet
