#pragma once

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>

#include <algorithm>
#include <cstdint>

namespace repq_fx {

constexpr int threads_per_block = 256;

// Blocks for a grid-stride loop over `size` values: no more than fill the current device.
inline int block_count(int64_t size) {
  const int64_t needed = (size + threads_per_block - 1) / threads_per_block;
  const auto* properties = at::cuda::getCurrentDeviceProperties();
  const int64_t resident = int64_t{properties->multiProcessorCount} *
                           properties->maxThreadsPerMultiProcessor / threads_per_block;
  return static_cast<int>(std::min(needed, resident));
}

}  // namespace repq_fx
