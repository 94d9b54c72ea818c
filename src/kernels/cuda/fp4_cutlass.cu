// fp4_products() on the FP4 tensor cores of sm_100 and sm_103: one instantiation of CUTLASS's
// grouped block-scaled GEMM, E2M1 times E2M1 with E4M3 scales for each 16, float32 sums and output.
// Weights are the 128-row operand, tokens the other. NOT RUN: no such GPU was at hand; compiled for
// sm_100a and sm_103a. Bound by the bytes of the weights for few tokens.

#include <cute/tensor.hpp>
#include <cutlass/cutlass.h>
#include <cutlass/detail/sm100_blockscaled_layout.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cutlass/gemm/group_array_problem_shape.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <cutlass/util/packed_stride.hpp>

#include "kernels/cuda/carver.h"
#include "kernels/cuda/fp4_quantize.cuh"

namespace facet::cuda {
namespace {

using cute::_1;
using cute::_128;
using cute::_256;
using cute::_64;
using cute::Shape;

struct Config {
  using Operand = cutlass::nv_float4_t<cutlass::float_e2m1_t>;
  using RowMajor = cutlass::layout::RowMajor;
  using ColumnMajor = cutlass::layout::ColumnMajor;
  using Tile = Shape<_128, _128, _256>;  // rows, tokens, columns
  using Cluster = Shape<_1, _1, _1>;
  static constexpr int kAlignment = 32;    // of operands, in elements: 16 bytes
  static constexpr int kAlignmentOut = 4;  // of float32

  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm100,
      cutlass::arch::OpClassBlockScaledTensorOp,
      Tile,
      Cluster,
      Shape<_128, _64>,
      float,
      float,
      float,
      ColumnMajor*,
      kAlignmentOut,
      float,
      ColumnMajor*,
      kAlignmentOut,
      cutlass::epilogue::PtrArrayTmaWarpSpecialized1Sm>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm100,
      cutlass::arch::OpClassBlockScaledTensorOp,
      Operand,
      RowMajor*,
      kAlignment,
      Operand,
      ColumnMajor*,
      kAlignment,
      float,
      Tile,
      Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(
          sizeof(typename Epilogue::SharedStorage))>,
      cutlass::gemm::KernelPtrArrayTmaWarpSpecialized1SmNvf4Sm100>::CollectiveOp;
  using Problem = cutlass::gemm::GroupProblemShape<Shape<int, int, int>>;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<Problem, Mainloop, Epilogue>;
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;

  using StrideW = typename Kernel::InternalStrideA;
  using StrideX = typename Kernel::InternalStrideB;
  using StrideOut = typename Kernel::InternalStrideD;
  using ScalesW = typename Mainloop::InternalLayoutSFA;
  using ScalesX = typename Mainloop::InternalLayoutSFB;
  using ScaleLayout = typename Mainloop::Sm1xxBlkScaledConfig;
  using Codes = typename Operand::DataType;
  using Scale = typename Operand::ScaleFactorType;
};

/// The list as CUTLASS reads it: an array of each.
struct Args {
  typename Config::Problem::UnderlyingProblemShape* shapes;  // rows, tokens, columns
  const typename Config::Codes** w;
  const typename Config::Codes** x;
  const typename Config::Scale** w_scales;
  const typename Config::Scale** x_scales;
  float** out;
  const float** alpha;
  typename Config::StrideW* w_strides;
  typename Config::StrideX* x_strides;
  typename Config::StrideOut* out_strides;
  typename Config::ScalesW* w_layouts;
  typename Config::ScalesX* x_layouts;
  std::byte* workspace;
};

/// Of CUTLASS itself: tensor maps of each multiprocessor.
constexpr int64_t kKernelWorkspace = int64_t{8} << 20;

int64_t carve(int32_t count, std::byte* memory, Args& args) {
  Carver carver(memory);
  const auto take = [&](auto*& pointer) {
    pointer = carver.take<std::remove_reference_t<decltype(*pointer)>>(count);
  };
  take(args.shapes), take(args.w), take(args.x), take(args.w_scales), take(args.x_scales);
  take(args.out), take(args.alpha), take(args.w_strides), take(args.x_strides);
  take(args.out_strides), take(args.w_layouts), take(args.x_layouts);
  args.workspace = carver.take<std::byte>(kKernelWorkspace);
  return carver.used();
}

__global__ void __launch_bounds__(128) fill_kernel(const Fp4List list, const Args args) {
  const int i = static_cast<int>(blockIdx.x * 128 + threadIdx.x);
  if (i >= list.count) return;
  const Fp4Product& p = list.products[i];
  const auto shape = cute::make_shape(p.rows, p.tokens, p.cols, 1);
  args.shapes[i] = cute::make_shape(p.rows, p.tokens, p.cols);
  args.w[i] = reinterpret_cast<const typename Config::Codes*>(p.w.codes);
  args.x[i] = reinterpret_cast<const typename Config::Codes*>(p.x.codes);
  args.w_scales[i] = reinterpret_cast<const typename Config::Scale*>(p.w.scales);
  args.x_scales[i] = reinterpret_cast<const typename Config::Scale*>(p.x.scales);
  args.out[i] = p.out;
  args.alpha[i] = &p.alpha;
  args.w_strides[i] = cutlass::make_cute_packed_stride(typename Config::StrideW{},
                                                       cute::make_shape(p.rows, p.cols, 1));
  args.x_strides[i] = cutlass::make_cute_packed_stride(typename Config::StrideX{},
                                                       cute::make_shape(p.tokens, p.cols, 1));
  args.out_strides[i] = cutlass::make_cute_packed_stride(typename Config::StrideOut{},
                                                         cute::make_shape(p.rows, p.tokens, 1));
  args.w_layouts[i] = Config::ScaleLayout::tile_atom_to_shape_SFA(shape);
  args.x_layouts[i] = Config::ScaleLayout::tile_atom_to_shape_SFB(shape);
}

void check_cutlass(cutlass::Status status, const char* what) {
  if (status == cutlass::Status::kSuccess) return;
  check(cudaGetLastError(), what);
  check(cudaErrorNotSupported, what);
}

}  // namespace

bool has_fp4_cores(int architecture) { return architecture == 100 || architecture == 103; }

int64_t fp4_workspace_bytes(int32_t count) {
  Args args = {};
  return carve(count, nullptr, args);
}

void fp4_products(cudaStream_t stream, const Fp4List& list, std::byte* workspace) {
  if (list.count == 0) return;
  Args args = {};
  carve(list.count, workspace, args);
  fill_kernel<<<grid(ceil_div(list.count, 128)), 128, 0, stream>>>(list, args);
  check_launch("fp4_products: arguments");
  using Gemm = Config::Gemm;
  typename Gemm::Arguments all;
  all.mode = cutlass::gemm::GemmUniversalMode::kGrouped;
  all.problem_shape = {list.count, args.shapes, nullptr};
  all.mainloop = {args.w,        args.w_strides, args.x,        args.x_strides,
                  args.w_scales, args.w_layouts, args.x_scales, args.x_layouts};
  all.epilogue.thread.alpha = 0.0F;
  all.epilogue.thread.alpha_ptr_array = args.alpha;
  all.epilogue.thread.dAlpha = {cute::_0{}, cute::_0{}, 1};
  all.epilogue.thread.beta = 0.0F;
  all.epilogue.ptr_C = const_cast<const float**>(args.out);  // times beta: not read
  all.epilogue.dC = args.out_strides;
  all.epilogue.ptr_D = args.out;
  all.epilogue.dD = args.out_strides;
  all.hw_info.device_id = 0;
  check(cudaDeviceGetAttribute(&all.hw_info.sm_count, cudaDevAttrMultiProcessorCount, 0),
        "multiprocessors");
  check(static_cast<int64_t>(Gemm::get_workspace_size(all)) <= kKernelWorkspace
            ? cudaSuccess
            : cudaErrorMemoryAllocation,
        "fp4_products: workspace");
  Gemm gemm;
  check_cutlass(gemm.can_implement(all), "fp4_products: shape");
  check_cutlass(gemm.initialize(all, args.workspace, stream), "fp4_products");
  check_cutlass(gemm.run(stream), "fp4_products");
}

}  // namespace facet::cuda
