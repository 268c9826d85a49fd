#include "common/tensors.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <optional>

namespace repq_fx {

at::Tensor dense(const at::Tensor& input) {
  return input.is_non_overlapping_and_dense() ? input : input.clone(at::MemoryFormat::Preserve);
}

at::Tensor dense_like(const at::Tensor& input, const at::Tensor& other) {
  return input.strides() == other.strides() ? input : at::empty_like(other).copy_(input);
}

at::Tensor new_like(const at::Tensor& other, std::optional<at::ScalarType> type) {
  return at::empty_like(other, at::TensorOptions().dtype(type));
}

at::Tensor new_tensor(at::IntArrayRef sizes, at::ScalarType type) { return at::empty(sizes, type); }

at::Tensor new_zeros(at::IntArrayRef sizes, at::ScalarType type) { return at::zeros(sizes, type); }

}  // namespace repq_fx
