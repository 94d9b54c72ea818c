// Checks and timings of linear() and experts() on a GPU, in one program that needs nothing else
// there:
//   cuda_products check | check-experts | time | time-attention | time-phases

#include <cstring>

#include "quant/float_formats.h"
#include "tests/cuda/products.h"

namespace facet::test {

RandomMatrix random_matrix(WeightFormat format,
                           DType scale_dtype,
                           int64_t rows,
                           int64_t cols,
                           bool one_scale,
                           unsigned seed) {
  std::mt19937 random(seed);
  RandomMatrix m;
  m.host.format = format;
  m.host.rows = rows;
  m.host.cols = cols;
  std::normal_distribution<float> normal(0.0F, 1.0F);
  if (format == WeightFormat::kBF16) {
    m.data.resize(static_cast<size_t>(rows * cols * 2));
    for (int64_t i = 0; i < rows * cols; ++i) {
      const uint16_t bits = float_to_bf16(normal(random) * 0.02F);
      std::memcpy(m.data.data() + i * 2, &bits, 2);
    }
  } else if (format == WeightFormat::kFp8) {
    for (int64_t i = 0; i < rows * cols; ++i) {
      const auto code = static_cast<uint8_t>(random());
      m.data.push_back((code & 0x7f) == 0x7f ? 0 : code);
    }
    m.host.scale_dtype = scale_dtype;
    m.host.scale_rows = one_scale ? 1 : rows;
    for (int64_t r = 0; r < m.host.scale_rows; ++r) {
      const float scale = 1e-3F * (1.0F + std::abs(normal(random)));
      const uint16_t bf16 = float_to_bf16(scale);
      const auto* bytes = scale_dtype == DType::kF32 ? reinterpret_cast<const uint8_t*>(&scale)
                                                     : reinterpret_cast<const uint8_t*>(&bf16);
      m.scales.insert(m.scales.end(), bytes, bytes + (scale_dtype == DType::kF32 ? 4 : 2));
    }
  } else {
    for (int64_t i = 0; i < rows * cols / 2; ++i) m.data.push_back(static_cast<uint8_t>(random()));
    m.host.scale_dtype = DType::kF8E4M3;
    m.host.scale_rows = rows;
    m.host.group_size = 16;
    m.host.global_scale = 0x1.2345p-12F * (1.0F + static_cast<float>(seed % 7));
    for (int64_t i = 0; i < rows * cols / 16; ++i) {
      // All magnitudes, mostly of one size; now and then zero, subnormal, largest.
      const unsigned kind = random() % 16;
      m.scales.push_back(
          static_cast<uint8_t>(kind == 0 ? random() % 0x7f : 0x40 + random() % 0x18));
    }
  }
  m.host.data = reinterpret_cast<const std::byte*>(m.data.data());
  m.host.scales = reinterpret_cast<const std::byte*>(m.scales.data());
  m.device_data.~DeviceArray();
  new (&m.device_data) DeviceArray<uint8_t>(m.data);
  m.device_scales.~DeviceArray();
  new (&m.device_scales) DeviceArray<uint8_t>(m.scales);
  return m;
}

std::vector<float> random_floats(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 1.0F);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& v : out) v = normal(random);
  return out;
}

void random_routing(int rows,
                    int top_k,
                    int experts,
                    int skew,
                    unsigned seed,
                    std::vector<int32_t>& chosen,
                    std::vector<float>& weights) {
  std::mt19937 random(seed);
  chosen.clear();
  weights.clear();
  std::vector<int32_t> all(static_cast<size_t>(skew == 2 ? std::max(top_k, experts / 2) : experts));
  for (size_t e = 0; e < all.size(); ++e) all[e] = static_cast<int32_t>(e);
  for (int t = 0; t < rows; ++t) {
    if (skew != 1) std::shuffle(all.begin(), all.end(), random);
    for (int j = 0; j < top_k; ++j) {
      chosen.push_back(all[static_cast<size_t>(j)]);
      weights.push_back(1.0F / static_cast<float>(top_k) +
                        static_cast<float>(random() % 1000) * 1e-4F);
    }
  }
}

}  // namespace facet::test

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "check";
  int count = 0;
  if (const cudaError_t found = cudaGetDeviceCount(&count); found != cudaSuccess || count == 0) {
    std::printf("skipped: no GPU: %s\n", cudaGetErrorString(found));
    return 77;  // what ctest counts as skipped
  }
  cudaDeviceProp device;
  facet::test::must(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  std::printf("%s, compute capability %d.%d, %d SMs\n", device.name, device.major, device.minor,
              device.multiProcessorCount);
  if (what == "check") return facet::test::check_products();
  if (what == "check-experts") return facet::test::check_experts_alone();
  if (what == "time") return facet::test::time_products(facet::test::Timed::kAll);
  if (what == "time-attention") return facet::test::time_attention();
  if (what == "time-phases") return facet::test::time_products(facet::test::Timed::kPhases);
  std::printf("usage: cuda_products check | check-experts | time | time-attention | time-phases\n");
  return 1;
}
