// New tensors, apart from the kernels that need them: the headers of torch's operators take longer
// to compile than a kernel does.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace repq_fx {

// `input`, copied only if its values have gaps or overlaps in memory. The order of dimensions is
// kept, so that channels_last stays channels_last. Kernels then walk the memory as it lies.
at::Tensor dense(const at::Tensor& input);

// `input` with the values in the order in which those of the dense tensor `other` lie.
at::Tensor dense_like(const at::Tensor& input, const at::Tensor& other);

// Of the shape, the order of dimensions and the device of `other`, of any values.
at::Tensor new_like(const at::Tensor& other, std::optional<at::ScalarType> type = std::nullopt);

// On the CPU; of any values, or of zeros.
at::Tensor new_tensor(at::IntArrayRef sizes, at::ScalarType type);
at::Tensor new_zeros(at::IntArrayRef sizes, at::ScalarType type);

}  // namespace repq_fx
