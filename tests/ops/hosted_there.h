#pragma once

// Operands of HostedBackend's ops on the device.

#include <algorithm>

#include "tests/ops/hosted_backend.h"

namespace facet::test {

/// A view's content on the device, for one op.
class HostedBackend::There {
 public:
  There(const TensorView& host, const Backend& inner) : There(host.data(), host.bytes(), inner) {
    if (host.empty()) return;
    view_ = {memory_.data(), host.dtype(), host.shape(), memory_.device()};
  }
  There(void* host, int64_t bytes, const Backend& inner)
      : host_(host), memory_(host == nullptr ? 0 : bytes, inner.allocator()) {
    if (host != nullptr) memory_.allocator().copy(memory_.data(), host, memory_.bytes());
  }
  TensorView view() const { return view_; }
  std::byte* data() const { return memory_.data(); }
  void take_back() const { memory_.allocator().copy(host_, memory_.data(), memory_.bytes()); }

 private:
  void* host_;
  Buffer memory_;
  TensorView view_;
};

/// A layer's cache on the device, as far as the page tables of a step reach.
class HostedBackend::CacheThere {
 public:
  CacheThere(const KvView& host, const Backend& inner)
      : k_(host.k, reached(host), inner), v_(host.v, reached(host), inner), view_(host) {
    view_.k = k_.data();
    view_.v = v_.data();
  }
  const KvView& view() const { return view_; }
  void take_back() const {
    k_.take_back();
    v_.take_back();
  }

 private:
  /// Bytes of K (or V).
  static int64_t reached(const KvView& kv) {
    int32_t pages = 0;
    for (const std::span<const PageId> table : kv.page_tables) {
      for (const PageId page : table) pages = std::max(pages, to_index(page) + 1);
    }
    return pages * page_elements(kv.layout) * bits_of(kv.layout.dtype) / 8;
  }

  There k_;
  There v_;
  KvView view_;
};

}  // namespace facet::test
