#include "kernels/cuda/weight_store.h"

#include <fmt/core.h>

#include "base/check.h"
#include "base/error.h"
#include "kernels/cuda/upload.h"

namespace facet::cuda {
namespace {

/// Calls `body` with every matrix of the operands.
template <typename Body>
void for_each_matrix(const ModelOperands& operands, const Body& body) {
  for (WeightMatrix* matrix : operands.matrices) body(*matrix);
  for (ExpertWeights* layer : operands.experts) {
    for (ExpertMatrices& expert : layer->experts) {
      if (!expert.gate.empty()) body(expert.gate);
      body(expert.up);
      body(expert.down);
    }
  }
}

int64_t data_bytes(const WeightMatrix& matrix) { return matrix.rows * row_bytes(matrix); }

}  // namespace

void WeightStore::load(const ModelOperands& operands) {
  Upload upload;
  for_each_matrix(operands, [&](const WeightMatrix& matrix) {
    upload.add(matrix.data, data_bytes(matrix));
    if (matrix.scales != nullptr) upload.add(matrix.scales, scale_bytes(matrix));
  });
  if (upload.bytes() > 0) {
    memory_.push_back(in_place("weights", [&] { return upload.run(operands.on_progress); }));
    const std::byte* device = memory_.back().data();
    for_each_matrix(operands, [&](WeightMatrix& matrix) {
      if (matrix.scales != nullptr) matrix.scales = device + upload.offset(matrix.scales);
      matrix.data = device + upload.offset(matrix.data);
    });
  }
  load_vectors(operands);
  load_expert_tables(operands);
}

void WeightStore::load_vectors(const ModelOperands& operands) {
  Upload upload;
  const auto for_each_vector = [&](const auto& body) {
    for (const auto& vector : operands.vectors) body(std::as_bytes(vector));
    for (const auto& rows : operands.row_lists) body(std::as_bytes(rows));
  };
  for_each_vector([&](std::span<const std::byte> v) { upload.add(v.data(), std::ssize(v)); });
  if (upload.bytes() == 0) return;
  memory_.push_back(upload.run({}));
  for_each_vector([&](std::span<const std::byte> v) {
    vectors_[v.data()] = {memory_.back().data() + upload.offset(v.data()), std::ssize(v)};
  });
}

void WeightStore::load_expert_tables(const ModelOperands& operands) {
  for (const ExpertWeights* layer : operands.experts) {
    std::vector<DeviceExpert> table;
    for (const ExpertMatrices& expert : layer->experts)
      table.push_back({expert.gate, expert.up, expert.down});
    const auto bytes = static_cast<int64_t>(table.size() * sizeof(DeviceExpert));
    Buffer& device = memory_.emplace_back(device_buffer(bytes));
    device.allocator().copy(device.data(), table.data(), bytes);
    experts_[layer->experts.data()] = reinterpret_cast<const DeviceExpert*>(device.data());
  }
}

const float* WeightStore::find(std::span<const float> host, const char* op) const {
  if (host.empty()) return nullptr;
  const auto found = vectors_.find(host.data());
  CHECK(found != vectors_.end() && std::ssize(std::as_bytes(host)) <= found->second.bytes,
        "{}: {} values that were not loaded", op, host.size());
  return reinterpret_cast<const float*>(found->second.device);
}

const int32_t* WeightStore::find_rows(std::span<const int32_t> host) const {
  const auto found = vectors_.find(host.data());
  if (found == vectors_.end() || std::ssize(std::as_bytes(host)) > found->second.bytes)
    return nullptr;
  return reinterpret_cast<const int32_t*>(found->second.device);
}

const DeviceExpert* WeightStore::find(const ExpertWeights& experts) const {
  const auto found = experts_.find(experts.experts.data());
  CHECK(found != experts_.end(), "experts that were not loaded");
  return found->second;
}

}  // namespace facet::cuda
