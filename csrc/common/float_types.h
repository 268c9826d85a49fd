#pragma once

#include <ATen/core/Tensor.h>

namespace repq_fx {

// Calls `call` with a value of the C++ type of `type`: float32, bfloat16 or float16.
template <typename Call>
void with_float_type(at::ScalarType type, const Call& call) {
  if (type == at::kBFloat16) return call(c10::BFloat16{});
  if (type == at::kHalf) return call(c10::Half{});
  TORCH_INTERNAL_ASSERT(type == at::kFloat);
  call(float{});
}

}  // namespace repq_fx
