#include "tensor/device_copy.h"

#include "base/check.h"

namespace facet {

DeviceCopy::DeviceCopy(TensorView host, const Buffer::Allocator& allocator)
    : memory_(host.bytes(), allocator), dtype_(host.dtype()), shape_(host.shape()) {
  CHECK(host.device() == Device::kHost, "a view of another device");
  allocator.copy(memory_.data(), host.data(), host.bytes());
}

}  // namespace facet
