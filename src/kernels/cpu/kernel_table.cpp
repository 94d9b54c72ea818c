#include "kernels/cpu/kernel_table.h"

namespace facet::cpu {

XOrder x_order(const WeightMatrix& w) {
  const bool nibbles = w.format == WeightFormat::kNvfp4 ||
                       (w.format == WeightFormat::kInt4Group && w.group_size % 16 == 0);
  return nibbles ? XOrder::kNibbles : XOrder::kColumns;
}

int64_t arranged_size(int64_t cols) {
  constexpr int64_t kUnit = 256;  // columns that the kernels look up scales for at a time
  return (cols + kUnit - 1) / kUnit * kUnit;
}

KernelTable kernel_table(Isa isa) {
  KernelTable table;
  set_linear_kernels(isa, table);
  set_attention_kernels(isa, table);
  set_elementwise_kernels(isa, table);
  set_encode_kernels(isa, table);
  set_peak_kernels(isa, table);
  return table;
}

}  // namespace facet::cpu
