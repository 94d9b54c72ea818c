#include "tests/fake/scripted_backend.h"

#include <algorithm>

namespace facet::test {
namespace {

constexpr float kSure = 1e4F;  // far above 0 at any temperature, penalty or bias

/// How many of the last ids of `history` are the first of script.emit, right after script.after; -1
/// if the script does not fit. The most that fit.
int64_t emitted(std::span<const int32_t> history, const ScriptedBackend::Script& script) {
  const int64_t most = std::min(std::ssize(script.emit), std::ssize(history));
  for (int64_t count = most; count >= 0; --count) {
    const auto before = history.first(history.size() - static_cast<size_t>(count));
    const auto after = history.last(static_cast<size_t>(count));
    if (before.size() < script.after.size()) continue;
    if (std::equal(after.begin(), after.end(), script.emit.begin()) &&
        std::equal(script.after.begin(), script.after.end(),
                   before.last(script.after.size()).begin()))
      return count;
  }
  return -1;
}

}  // namespace

void ScriptedBackend::add(Script script) {
  const std::lock_guard lock(mu_);
  scripts_.push_back(std::move(script));
}

void ScriptedBackend::begin_rows(int32_t /*step_rows*/) { numbered_ = false; }

uint64_t ScriptedBackend::joined(uint64_t x, uint64_t h) { return numbered_ ? h : x; }

void ScriptedBackend::attention(
    TensorView out, TensorView /*q*/, const KvView& kv, int32_t window, const Batch& batch) {
  if (window == 0) {
    kv_ = kv;
    batch_ = batch;
    numbered_ = true;
  }
  for (int64_t row = 0; row < batch.rows(); ++row) set(out, row, static_cast<uint64_t>(row));
}

void ScriptedBackend::logits_of(uint64_t row, std::span<float> logits) {
  const auto r = static_cast<size_t>(row);
  const auto sequence = static_cast<size_t>(batch_.sequence_of_row[r]);
  std::vector<int32_t> history;
  for (int32_t position = 0; position <= batch_.positions[r]; ++position)
    history.push_back(static_cast<int32_t>(stored(kv_, sequence, position)));
  std::fill(logits.begin(), logits.end(), 0.0F);
  logits[static_cast<size_t>(next_of(history))] = kSure;
}

int32_t ScriptedBackend::next_of(std::span<const int32_t> history) {
  const std::lock_guard lock(mu_);
  const Script* best = nullptr;
  int64_t done = 0;
  for (const Script& script : scripts_) {
    const int64_t count = emitted(history, script);
    if (count < 0 || (best != nullptr && script.after.size() < best->after.size())) continue;
    best = &script;
    done = count;
  }
  if (best == nullptr || done == std::ssize(best->emit)) return end_id_;
  return best->emit[static_cast<size_t>(done)];
}

}  // namespace facet::test
