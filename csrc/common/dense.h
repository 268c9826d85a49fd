#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>

namespace repq_fx {

// `input`, copied only if its values have gaps or overlaps in memory. The order of dimensions is
// kept, so that channels_last stays channels_last. Kernels then walk the memory as it lies.
inline at::Tensor dense(const at::Tensor& input) {
  return input.is_non_overlapping_and_dense() ? input : input.clone(at::MemoryFormat::Preserve);
}

// `input` with the values in the order in which those of the dense tensor `other` lie.
inline at::Tensor dense_like(const at::Tensor& input, const at::Tensor& other) {
  return input.strides() == other.strides() ? input : at::empty_like(other).copy_(input);
}

}  // namespace repq_fx
