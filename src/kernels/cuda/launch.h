#pragma once

#include <cuda_runtime.h>

#include "kernels/cuda/device.h"
#include "kernels/cuda/launch_watch.h"

namespace facet::cuda {

/// Whether a kernel may begin while those before it end (programmatic dependent launch). It must
/// then touch nothing but weights before wait_for_previous().
enum class Overlap { kNo, kYes };

struct LaunchShape {
  dim3 grid;
  unsigned threads = 0;
  int shared_bytes = 0;
  unsigned cluster_z = 1;  ///< CTAs of one cluster, along z
  unsigned cluster_x = 1;  ///< or along x
  bool together = false;   ///< all CTAs are under way at once, or none: they wait for each other
  Traffic traffic = {};    ///< for whoever takes a step apart
};

/// Enqueues `kernel` and checks; `name` is for the message and the watch. Every kernel of a step
/// goes through here.
template <typename... Parameters, typename... Arguments>
void launch(cudaStream_t stream,
            Overlap overlap,
            const LaunchShape& shape,
            const char* name,
            void (*kernel)(Parameters...),
            Arguments... arguments) {
  constexpr int kWithoutAsking = 40 * 1024;  // 48 with what a kernel declares itself
  if (shape.shared_bytes > kWithoutAsking) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               shape.shared_bytes),
          name);
  }
  cudaLaunchAttribute attributes[3] = {};
  unsigned count = 0;
  LaunchWatch* const watch = LaunchWatch::current();
  if (overlap == Overlap::kYes && watch == nullptr && has_clusters()) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster_x * shape.cluster_z > 1) {
    constexpr unsigned kEverywhere = 8;  // CTAs that form a cluster without asking
    if (shape.cluster_x * shape.cluster_z > kEverywhere)
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), name);
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = shape.cluster_x;
    attributes[count].val.clusterDim.y = 1;
    attributes[count++].val.clusterDim.z = shape.cluster_z;
  }
  if (shape.together) {
    attributes[count].id = cudaLaunchAttributeCooperative;
    attributes[count++].val.cooperative = 1;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = static_cast<size_t>(shape.shared_bytes);
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  check(cudaLaunchKernelEx(&config, kernel, arguments...), name);
  if (watch != nullptr) watch->launched(stream, name, shape.traffic);
}

}  // namespace facet::cuda
