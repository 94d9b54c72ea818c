#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "tests/fake/fake_ops.h"

namespace facet::test {

/// Emits given ids: a sequence whose prompt ends with `after` goes on with `emit`, whatever the
/// sampling parameters (masks and forced tokens excepted), and with `end_id` from then on. What was
/// read so far is read back from the pages, so the engine's own mistakes show.
class ScriptedBackend final : public FakeOps {
 public:
  struct Script {
    std::vector<int32_t> after;  ///< last ids of the prompt; empty: any prompt
    std::vector<int32_t> emit;
  };

  /// `end_id` is in [0, vocab).
  explicit ScriptedBackend(int32_t end_id) : end_id_(end_id) {}

  /// Any thread, at any time; of several scripts that fit, the longest `after` counts, then the
  /// last added.
  void add(Script script);

  std::string_view describe() const override { return "scripted"; }
  void attention(
      TensorView out, TensorView q, const KvView& kv, int32_t window, const Batch& batch) override;

 protected:
  uint64_t row_of(int32_t id) override { return static_cast<uint64_t>(id); }
  uint64_t at_position(uint64_t row, int32_t /*position*/) override { return row; }
  uint64_t joined(uint64_t x, uint64_t h) override;
  void logits_of(uint64_t row, std::span<float> logits) override;
  void begin_rows(int32_t step_rows) override;

 private:
  int32_t next_of(std::span<const int32_t> history);

  const int32_t end_id_;
  // Of the step: the full layer's cache, and whether its attention is done, so that rows carry
  // their number from there on.
  KvView kv_;
  Batch batch_;
  bool numbered_ = false;

  std::mutex mu_;
  std::vector<Script> scripts_;  // guarded by mu_
};

}  // namespace facet::test
