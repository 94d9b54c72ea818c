#include "kernels/cpu/kernel_table.h"

namespace facet::cpu {

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
