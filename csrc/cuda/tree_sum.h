#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "common/blocks.h"

namespace repq_fx {

// `tree_sum` with all threads of a block; `stride` values lie between two rows of `width` values.
__device__ inline void tree_sum_together(double* rows, int64_t count, int64_t width,
                                         int64_t stride) {
  while (count > 1) {
    const int64_t half = (count + 1) / 2;
    for (int64_t i = threadIdx.x; i < (count - half) * width; i += blockDim.x) {
      const int64_t target = i / width * stride + i % width;
      rows[target] += rows[target + half * stride];
    }
    __syncthreads();
    count = half;
  }
}

// Thread blocks for a loop over `blocks`.
inline int grid_size(const Blocks& blocks) {
  return static_cast<int>(std::min<int64_t>(blocks.count, std::numeric_limits<int32_t>::max()));
}

}  // namespace repq_fx
