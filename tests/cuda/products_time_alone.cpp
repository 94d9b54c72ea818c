// What each kernel of a chain takes when none overlaps with another. Apart from the timings: the
// compiler of device code does not take the headers.

#include "kernels/cuda/step_profile.h"
#include "tests/cuda/products_time.h"

namespace facet::test {

void print_alone(cudaStream_t stream, int times, const std::function<void(int)>& body) {
  cuda::StepProfile profile;
  profile.start();
  profile.begin(stream);
  for (int i = 0; i < times; ++i) body(i);
  profile.end(stream);
  const KernelProfile found = profile.finish();
  double sum = 0;
  for (const KernelTime& kernel : found.kernels) {
    std::printf("  alone: %-40s %8.2f us\n", kernel.kernel.c_str(),
                kernel.microseconds / static_cast<double>(kernel.calls));
    sum += kernel.microseconds / times;
  }
  std::printf("  alone: %-40s %8.2f us; a kernel that does nothing %.2f us\n", "together", sum,
              found.empty_launch_us);
}

}  // namespace facet::test
