#pragma once

#include <cstdint>

#include "model/model.h"
#include "tensor/buffer.h"

namespace facet {

/// Shows an observer on the host what lies in a device's memory, and takes back what it leaves.
/// Slow: each look waits for the device.
class HostObserver final : public StepObserver {
 public:
  /// `allocator` is that of the views' device.
  HostObserver(StepObserver& inner, const Buffer::Allocator& allocator)
      : inner_(inner), allocator_(allocator) {}

  bool goes_on(int32_t layer) override { return inner_.goes_on(layer); }
  void hidden(int32_t layer, TensorView x) override;
  void after_attention(int32_t layer, TensorView x) override;
  void after_layers(TensorView x) override;
  void routing(int32_t layer, const Routing& routing) override;
  void per_layer_inputs(TensorView ple) override;

 private:
  StepObserver& inner_;
  const Buffer::Allocator& allocator_;
};

}  // namespace facet
