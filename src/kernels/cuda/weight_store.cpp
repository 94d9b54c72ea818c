#include "kernels/cuda/weight_store.h"

#include <algorithm>
#include <unordered_set>

#include "base/check.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/repack.h"
#include "quant/nvfp4.h"
#include "quant/nvfp4_tiles.h"

namespace facet::cuda {
namespace {

constexpr int64_t kSlotBytes = int64_t{64} << 20;

int64_t data_bytes(const WeightMatrix& matrix) { return matrix.rows * row_bytes(matrix); }

void add(Upload& upload, const WeightMatrix& matrix) {
  if (matrix.empty()) return;
  upload.add(matrix.data, data_bytes(matrix));
  if (matrix.scales != nullptr) upload.add(matrix.scales, scale_bytes(matrix));
}

/// Points a matrix at its bytes in the block.
void move(WeightMatrix& matrix, const Upload& upload, const std::byte* block) {
  if (matrix.empty()) return;
  matrix.data = block + upload.offset(matrix.data);
  if (matrix.scales != nullptr) matrix.scales = block + upload.offset(matrix.scales);
}

/// Calls `body` with the matrices of an expert; the gate may be empty.
template <typename Expert, typename Body>
void for_each_matrix(Expert& expert, const Body& body) {
  body(expert.gate);
  body(expert.up);
  body(expert.down);
}

/// What experts() is told of a layer, if the plan is its kernels.
std::optional<ExpertsLayer> fast_layer(const ExpertWeights& weights,
                                       const Activation& activation,
                                       const GpuSetup& setup) {
  const ExpertsQuery query = query_of(weights, activation);
  const ProductPlan plan = plan_experts(setup, query);
  if (plan.form == ProductForm::kPlain || plan.form == ProductForm::kFp4) return std::nullopt;
  ExpertsLayer layer;
  layer.format = query.format;
  layer.count = weights.count();
  layer.hidden = static_cast<int32_t>(query.hidden);
  layer.width = static_cast<int32_t>(query.width);
  layer.activation = query.activation;
  layer.form = plan.form;
  return layer;
}

/// Bytes that are copied: each piece of the files once.
int64_t copied_bytes(const ModelOperands& operands) {
  Upload all;
  for (const WeightMatrix* matrix : operands.matrices) add(all, *matrix);
  for (const ExpertWeights* layer : operands.experts) {
    for (const ExpertMatrices& expert : layer->experts)
      for_each_matrix(expert, [&](const WeightMatrix& m) { add(all, m); });
  }
  for (const auto& vector : operands.vectors)
    all.add(vector.data(), std::ssize(std::as_bytes(vector)));
  for (const auto& rows : operands.row_lists) all.add(rows.data(), std::ssize(std::as_bytes(rows)));
  return all.bytes();
}

/// What experts() reads of an NVFP4 layer, made of its uploaded matrices in `tiles`.
std::vector<ExpertPointers> tile_experts(cudaStream_t stream,
                                         ExpertWeights& layer,
                                         std::byte* tiles) {
  std::vector<ExpertPointers> pointers;
  for (ExpertMatrices& expert : layer.experts) {
    ExpertPointers to;
    to.gate_scale = expert.gate.global_scale;
    to.up_scale = expert.up.global_scale;
    to.down_scale = expert.down.global_scale;
    to.gate = tiles;
    repack_nvfp4_pair(stream, tiles, expert.gate, expert.up);
    tiles += nvfp4_pair_tiles_bytes(expert.up.rows, expert.up.cols);
    to.down = tiles;
    repack_nvfp4(stream, tiles, expert.down);
    tiles += nvfp4_tiles_bytes(expert.down.rows, expert.down.cols);
    pointers.push_back(to);
    // The stored form goes; what is left names the matrices.
    expert.gate.data = expert.up.data = to.gate;
    expert.down.data = to.down;
    for_each_matrix(expert, [](WeightMatrix& m) { m.scales = nullptr; });
  }
  return pointers;
}

int64_t expert_tiles_bytes(const ExpertWeights& layer) {
  int64_t bytes = 0;
  for (const ExpertMatrices& expert : layer.experts) {
    bytes += nvfp4_pair_tiles_bytes(expert.up.rows, expert.up.cols) +
             nvfp4_tiles_bytes(expert.down.rows, expert.down.cols);
  }
  return bytes;
}

/// A table of what the host holds, on the GPU.
template <typename T>
Buffer on_device(const std::vector<T>& table) {
  const auto bytes = static_cast<int64_t>(table.size() * sizeof(T));
  Buffer buffer = device_buffer(bytes);
  buffer.allocator().copy(buffer.data(), table.data(), bytes);
  return buffer;
}

int64_t stored_bytes_of(const ExpertWeights& layer) {
  Upload upload;
  for (const ExpertMatrices& expert : layer.experts)
    for_each_matrix(expert, [&](const WeightMatrix& m) { add(upload, m); });
  return upload.bytes();
}

/// Whether linear() reads the matrix as tiles, which stand beside the stored form.
bool is_tiled(const WeightMatrix& matrix, const GpuSetup& setup) {
  const ProductForm form = plan_linear(setup, query_of(matrix)).form;
  return matrix.format == WeightFormat::kNvfp4 && form != ProductForm::kPlain &&
         form != ProductForm::kFp4;
}

bool is_fp4(const ExpertWeights& layer, const Activation& activation, const GpuSetup& setup) {
  return plan_experts(setup, query_of(layer, activation)).form == ProductForm::kFp4;
}

/// Bytes of the layer's scales as FP4 tensor cores want them, beside the stored form.
int64_t fp4_scale_bytes_of(const ExpertWeights& layer) {
  int64_t bytes = 0;
  for (const ExpertMatrices& expert : layer.experts) {
    for_each_matrix(expert, [&](const WeightMatrix& m) {
      bytes += nvfp4_scale_bytes_128x4(m.rows, scale_cols(m));
    });
  }
  return bytes;
}

}  // namespace

int64_t WeightStore::bytes_of(const ModelOperands& operands, const GpuSetup& setup) {
  ModelOperands others = operands;
  others.experts.clear();
  int64_t bytes = copied_bytes(others);
  int64_t passing = 0;  // a layer's stored form while its tiles are made
  for (const ExpertWeights* layer : operands.experts) {
    const std::optional<ExpertsLayer> fast = fast_layer(*layer, operands.activation, setup);
    const int64_t stored = stored_bytes_of(*layer);
    const bool tiles = fast && fast->format == WeightFormat::kNvfp4;
    bytes += tiles ? expert_tiles_bytes(*layer) : stored;
    if (is_fp4(*layer, operands.activation, setup)) bytes += fp4_scale_bytes_of(*layer);
    if (tiles) passing = std::max(passing, stored);
  }
  std::unordered_set<const void*> tiled;
  for (const WeightMatrix* matrix : operands.matrices) {
    if (is_tiled(*matrix, setup) && tiled.insert(matrix->data).second)
      bytes += nvfp4_tiles_bytes(matrix->rows, matrix->cols);
  }
  return bytes + passing;
}

std::byte* WeightStore::keep(Buffer buffer) {
  return memory_.emplace_back(std::move(buffer)).data();
}

void WeightStore::load(const ModelOperands& operands, const GpuSetup& setup, cudaStream_t stream) {
  const int64_t total = copied_bytes(operands);
  if (total == 0) return;
  check_gpu_memory({.weights = bytes_of(operands, setup)}, device_memory());
  UploadRing ring(std::min(kSlotBytes, total));
  int64_t done = 0;
  const Loading loading = {operands, setup, stream, ring, [&](int64_t bytes) {
                             done += bytes;
                             if (operands.on_progress) operands.on_progress(done, total);
                           }};
  load_matrices(loading);
  load_vectors(loading);
  for (ExpertWeights* layer : operands.experts) load_experts(loading, *layer);
  tile_matrices(loading);
}

void WeightStore::load_matrices(const Loading& loading) {
  Upload upload;
  for (const WeightMatrix* matrix : loading.operands.matrices) add(upload, *matrix);
  if (upload.bytes() == 0) return;
  const std::byte* block = keep(upload.run(loading.ring, loading.on_bytes));
  for (WeightMatrix* matrix : loading.operands.matrices) move(*matrix, upload, block);
}

void WeightStore::load_vectors(const Loading& loading) {
  Upload upload;
  for (const auto& vector : loading.operands.vectors)
    upload.add(vector.data(), std::ssize(std::as_bytes(vector)));
  for (const auto& rows : loading.operands.row_lists)
    upload.add(rows.data(), std::ssize(std::as_bytes(rows)));
  if (upload.bytes() == 0) return;
  const std::byte* block = keep(upload.run(loading.ring, loading.on_bytes));
  const auto loaded = [&](std::span<const std::byte> bytes) {
    return Loaded{block + upload.offset(bytes.data()), std::ssize(bytes)};
  };
  for (const auto& vector : loading.operands.vectors)
    vectors_[vector.data()] = loaded(std::as_bytes(vector));
  for (const auto& rows : loading.operands.row_lists)
    row_lists_[rows.data()] = loaded(std::as_bytes(rows));
}

void WeightStore::load_experts(const Loading& loading, ExpertWeights& layer) {
  Upload upload;
  for (const ExpertMatrices& expert : layer.experts)
    for_each_matrix(expert, [&](const WeightMatrix& m) { add(upload, m); });
  const std::optional<ExpertsLayer> fast =
      fast_layer(layer, loading.operands.activation, loading.setup);
  Buffer block = upload.run(loading.ring, loading.on_bytes);
  for (ExpertMatrices& expert : layer.experts)
    for_each_matrix(expert, [&](WeightMatrix& m) { move(m, upload, block.data()); });
  LoadedExperts& loaded = experts_[layer.experts.data()];
  loaded = {};
  loaded.activation = loading.operands.activation;
  std::vector<ExpertPointers> pointers;
  if (is_fp4(layer, loading.operands.activation, loading.setup)) {
    const ExpertsQuery query = query_of(layer, loading.operands.activation);
    const Buffer& table = memory_.emplace_back(on_device(fp4_experts_of(loading, layer)));
    loaded.fp4 = {reinterpret_cast<const Fp4Expert*>(table.data()), query.activation.function,
                  layer.count(), static_cast<int32_t>(query.hidden),
                  static_cast<int32_t>(query.width)};
    check(cudaStreamSynchronize(loading.stream), "scales for FP4 tensor cores");
  } else if (!fast) {
    std::vector<DeviceExpert> table;
    for (const ExpertMatrices& expert : layer.experts)
      table.push_back({expert.gate, expert.up, expert.down});
    loaded.plain = reinterpret_cast<const DeviceExpert*>(keep(on_device(table)));
  } else if (fast->format == WeightFormat::kNvfp4) {
    pointers = tile_experts(loading.stream, layer, keep(device_buffer(expert_tiles_bytes(layer))));
    check(cudaStreamSynchronize(loading.stream), "repacking");
    block = Buffer();
  } else {
    for (const ExpertMatrices& expert : layer.experts) {
      pointers.push_back(
          {.gate = expert.gate.data, .up = expert.up.data, .down = expert.down.data});
    }
  }
  if (block.data() != nullptr) keep(std::move(block));
  if (!fast) return;
  loaded.layer = *fast;
  loaded.layer.experts = reinterpret_cast<const ExpertPointers*>(keep(on_device(pointers)));
}

Fp4Operand WeightStore::fp4_operand(const WeightMatrix& matrix, cudaStream_t stream) {
  const int64_t bytes = nvfp4_scale_bytes_128x4(matrix.rows, scale_cols(matrix));
  auto* scales = reinterpret_cast<uint8_t*>(keep(Buffer(bytes, device_allocator())));
  swizzle_scales(stream, scales, matrix.scales, matrix.rows, scale_cols(matrix));
  return {reinterpret_cast<const uint8_t*>(matrix.data), scales};
}

std::vector<Fp4Expert> WeightStore::fp4_experts_of(const Loading& loading, ExpertWeights& layer) {
  std::vector<Fp4Expert> experts;
  for (const ExpertMatrices& e : layer.experts) {
    experts.push_back(
        {fp4_operand(e.gate, loading.stream), fp4_operand(e.up, loading.stream),
         fp4_operand(e.down, loading.stream), e.gate.input_scale * e.gate.global_scale,
         e.up.input_scale * e.up.global_scale, e.down.input_scale * e.down.global_scale,
         e.up.input_scale, e.down.input_scale});
  }
  return experts;
}

void WeightStore::tile_matrices(const Loading& loading) {
  for (const WeightMatrix* matrix : loading.operands.matrices) {
    const bool fp4 = plan_linear(loading.setup, query_of(*matrix)).form == ProductForm::kFp4;
    if (fp4 && !fp4_.contains(matrix->data))
      fp4_[matrix->data] = fp4_operand(*matrix, loading.stream);
    if (!is_tiled(*matrix, loading.setup) || tiles_.contains(matrix->data)) continue;
    std::byte* tiles = keep(device_buffer(nvfp4_tiles_bytes(matrix->rows, matrix->cols)));
    repack_nvfp4(loading.stream, tiles, *matrix);
    tiles_[matrix->data] = tiles;
  }
  check(cudaStreamSynchronize(loading.stream), "repacking");
}

const float* WeightStore::find(std::span<const float> host, const char* op) const {
  if (host.empty()) return nullptr;
  const auto found = vectors_.find(host.data());
  CHECK(found != vectors_.end() && std::ssize(std::as_bytes(host)) <= found->second.bytes,
        "{}: {} values that were not loaded", op, host.size());
  return reinterpret_cast<const float*>(found->second.device);
}

const int32_t* WeightStore::find_rows(std::span<const int32_t> host, const char* op) const {
  if (host.empty()) return nullptr;
  const auto found = row_lists_.find(host.data());
  CHECK(found != row_lists_.end() && std::ssize(std::as_bytes(host)) <= found->second.bytes,
        "{}: {} integers that are neither the step's nor loaded", op, host.size());
  return reinterpret_cast<const int32_t*>(found->second.device);
}

const LoadedExperts& WeightStore::find(const ExpertWeights& experts) const {
  const auto found = experts_.find(experts.experts.data());
  CHECK(found != experts_.end(), "experts that were not loaded");
  return found->second;
}

Fp4Operand WeightStore::find_fp4(const WeightMatrix& matrix) const {
  const auto found = fp4_.find(matrix.data);
  return found == fp4_.end() ? Fp4Operand() : found->second;
}

const std::byte* WeightStore::find_tiles(const WeightMatrix& matrix) const {
  const auto found = tiles_.find(matrix.data);
  return found == tiles_.end() ? nullptr : found->second;
}

}  // namespace facet::cuda
