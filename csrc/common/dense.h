#pragma once

#include <ATen/ATen.h>

namespace repq_fx {

// `input`, copied only if its values have gaps or overlaps in memory. The order of dimensions is
// kept, so that channels_last stays channels_last. Kernels then walk the memory as it lies.
inline at::Tensor dense(const at::Tensor& input) {
  return input.is_non_overlapping_and_dense() ? input : input.clone(at::MemoryFormat::Preserve);
}

}  // namespace repq_fx
