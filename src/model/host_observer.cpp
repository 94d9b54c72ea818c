#include "model/host_observer.h"

namespace facet {
namespace {

/// The content of a view on the host, for as long as this lives; then the view gets it back.
class HostCopy {
 public:
  HostCopy(TensorView device, const Buffer::Allocator& allocator)
      : device_(device), allocator_(allocator), memory_(device.bytes()) {
    allocator_.copy(memory_.data(), device_.data(), device_.bytes());
  }
  ~HostCopy() { allocator_.copy(device_.data(), memory_.data(), device_.bytes()); }
  HostCopy(const HostCopy&) = delete;
  HostCopy& operator=(const HostCopy&) = delete;

  TensorView view() const { return {memory_.data(), device_.dtype(), device_.shape()}; }

 private:
  TensorView device_;
  const Buffer::Allocator& allocator_;
  Buffer memory_;
};

}  // namespace

void HostObserver::hidden(int32_t layer, TensorView x) {
  const HostCopy copy(x, allocator_);
  inner_.hidden(layer, copy.view());
}

void HostObserver::after_attention(int32_t layer, TensorView x) {
  const HostCopy copy(x, allocator_);
  inner_.after_attention(layer, copy.view());
}

void HostObserver::after_layers(TensorView x) {
  const HostCopy copy(x, allocator_);
  inner_.after_layers(copy.view());
}

void HostObserver::routing(int32_t layer, const Routing& routing) {
  const HostCopy experts(routing.experts, allocator_);
  const HostCopy weights(routing.weights, allocator_);
  inner_.routing(layer, {experts.view(), weights.view()});
}

void HostObserver::per_layer_inputs(TensorView ple) {
  const HostCopy copy(ple, allocator_);
  inner_.per_layer_inputs(copy.view());
}

}  // namespace facet
