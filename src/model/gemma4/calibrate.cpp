#include "model/gemma4/calibrate.h"

#include <algorithm>
#include <cmath>

#include "kernels/wrapped_backend.h"

namespace facet::gemma4 {
namespace {

class ObservingBackend final : public WrappedBackend {
 public:
  ObservingBackend(Backend& inner, InputRanges& ranges) : WrappedBackend(inner), ranges_(ranges) {}

  void linear(TensorView out, TensorView x, const WeightMatrix& w) override {
    float& largest = ranges_[w.data];
    for (const float value : x.as<float>()) largest = std::max(largest, std::abs(value));
    WrappedBackend::linear(out, x, w);
  }

 private:
  InputRanges& ranges_;
};

}  // namespace

std::unique_ptr<Backend> make_observing_backend(Backend& inner, InputRanges& ranges) {
  return std::make_unique<ObservingBackend>(inner, ranges);
}

}  // namespace facet::gemma4
