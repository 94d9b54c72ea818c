#pragma once

// What the checks and the timings of products share: data on the device, and a stream of random
// numbers.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include "quant/weight_matrix.h"

namespace facet::test {

inline void must(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  std::printf("FAILED %s: %s\n", what, cudaGetErrorString(result));
  std::exit(2);
}

/// Device memory of `count` T; freed at the end.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(int64_t count) : count_(count) {
    must(cudaMalloc(&data_, static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(T)),
         "cudaMalloc");
  }
  explicit DeviceArray(const std::vector<T>& from)
      : DeviceArray(static_cast<int64_t>(from.size())) {
    must(cudaMemcpy(data_, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice),
         "copy in");
  }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  DeviceArray(DeviceArray&& other) noexcept : data_(other.data_), count_(other.count_) {
    other.data_ = nullptr;
  }

  T* get() const { return data_; }
  int64_t count() const { return count_; }
  std::vector<T> host() const {
    std::vector<T> out(static_cast<size_t>(count_));
    must(cudaMemcpy(out.data(), data_, out.size() * sizeof(T), cudaMemcpyDeviceToHost), "copy out");
    return out;
  }

 private:
  T* data_ = nullptr;
  int64_t count_ = 0;
};

/// A matrix of random stored bytes: the host's form, which dequantize_row reads, and its copy.
struct RandomMatrix {
  std::vector<uint8_t> data;
  std::vector<uint8_t> scales;
  WeightMatrix host;
  DeviceArray<uint8_t> device_data{0};
  DeviceArray<uint8_t> device_scales{0};
  WeightMatrix device() const {
    WeightMatrix w = host;
    w.data = reinterpret_cast<const std::byte*>(device_data.get());
    w.scales = reinterpret_cast<const std::byte*>(device_scales.get());
    return w;
  }
};

/// Values of all signs and sizes, zeros and subnormals among them; scales of E4M3 from 2^-9 to 448.
RandomMatrix random_matrix(WeightFormat format,
                           DType scale_dtype,
                           int64_t rows,
                           int64_t cols,
                           bool one_scale,
                           unsigned seed);

/// Normally distributed.
std::vector<float> random_floats(int64_t count, unsigned seed);

/// Distinct experts for each row, in order of choice, and weights about 1 / top_k. `skew`: 0 any, 1
/// all rows choose the first experts, 2 half of the experts are never chosen.
void random_routing(int rows,
                    int top_k,
                    int experts,
                    int skew,
                    unsigned seed,
                    std::vector<int32_t>& chosen,
                    std::vector<float>& weights);

/// A float32 sum of products against the exact one, relative to the sum of the products'
/// magnitudes: tensor cores add with a truncation of 2^-24 or so per step of up to 8192 / 16 steps.
inline constexpr double kSumTolerance = 4e-6;

/// Rows that results are computed for, to be equal in all.
inline constexpr int kTokenCounts[] = {1, 2, 7, 8, 9, 16, 17, 33, 64, 65, 100, 129, 1000};

/// Counts and prints what is not so.
void expect(bool good, const std::string& what);
/// How many of `count` floats on the device differ in any bit. Waits.
int differing(const float* a, const float* b, int64_t count, cudaStream_t stream);
/// Adds the same to *differences (device), in the stream's order.
void count_differing(
    const float* a, const float* b, int64_t count, int* differences, cudaStream_t stream);
/// The largest |got - exact| / size; huge where got is no number.
double worst_error(const std::vector<float>& got,
                   const std::vector<double>& exact,
                   const std::vector<double>& size);

void check_all_experts(cudaStream_t stream);
void check_fp4(cudaStream_t stream);

int check_products();
int check_experts_alone();
enum class Timed { kAll, kPhases };  ///< kPhases: those of a layer of decode
int time_products(Timed timed);
int time_attention();  // attention's part of it

}  // namespace facet::test
