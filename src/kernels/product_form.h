#pragma once

#include <cstdint>

namespace facet {

/// Which kernels compute a product (kernel_choice.h). All but kPlain and kFp4 give the same bits.
enum class ProductForm : uint8_t {
  kByTokens,  ///< streamed for few tokens, in tiles for more
  kStream,    ///< always streamed, a few tokens at a time
  kTiled,     ///< always in tiles
  kPlain,     ///< right for every format, shape and activation; slow
  kFp4,       ///< W4A4
};

}  // namespace facet
