#pragma once

#include <boost/json/object.hpp>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/safetensors_writer.h"
#include "model/gemma4/quantize.h"

namespace facet::gemma4 {

/// Writes a plain checkpoint with some of its matrices quantised: what the formats of quantize.h
/// share. A format says which matrices, and what each becomes.
class CheckpointQuantizer {
 public:
  explicit CheckpointQuantizer(const QuantizeJob& job);
  virtual ~CheckpointQuantizer() = default;
  CheckpointQuantizer(const CheckpointQuantizer&) = delete;
  CheckpointQuantizer& operator=(const CheckpointQuantizer&) = delete;

  /// Writes model.safetensors and the configs into the folder `out`.
  void write(const std::string& out, const OnBytes& on_bytes);

 protected:
  /// One tensor of a quantised matrix: MODULE.suffix.
  struct Part {
    std::string suffix;
    DType dtype;
    Shape shape;
  };
  using Sink = SafetensorsWriter::Sink;

  virtual std::vector<Part> parts(const WeightMatrix& matrix) const = 0;
  /// Hands all bytes of MODULE.suffix to the sink. Parts of a module come at different times.
  virtual void supply(const std::string& module, const std::string& suffix, const Sink& sink) = 0;
  virtual void write_configs(const std::string& out) const = 0;

  /// The matrix shall be quantised, as `module`. Throws Error{kBadCheckpoint} if it is not plain or
  /// its columns are no multiple of `columns`.
  void add(const std::string& module, const WeightMatrix& matrix, int64_t columns = 1);
  /// Gate, up and down of all experts of a layer, which may be stored fused.
  void add_experts(size_t layer, int64_t columns = 1);

  const QuantizeJob& job() const { return job_; }
  /// What stands before text names in this checkpoint: "model.language_model." or "model.".
  const std::string& prefix() const { return prefix_; }
  const std::map<std::string, WeightMatrix>& targets() const { return targets_; }
  /// All weights of a target as floats. Throws Error{kBadCheckpoint} if one is not finite.
  std::vector<float> values(const std::string& module) const;

  static void write_json(const std::string& path, const boost::json::object& object);

 private:
  bool is_replaced(const std::string& name) const;

  const QuantizeJob& job_;
  const std::string prefix_;
  std::map<std::string, WeightMatrix> targets_;  // by module
  std::set<std::string> replaced_;               // text names of the input that they stand for
};

}  // namespace facet::gemma4
