#include "cpu/int8/value.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/tensors.h"

namespace repq_fx {

std::string shape_of(const ValueType& type) {
  std::string words = "[";
  for (const int64_t size : type.sizes)
    words += (words.size() > 1 ? ", " : "") + std::to_string(size);
  return words + "]";
}

std::vector<int64_t> joint_sizes(const ValueType& a, const ValueType& b) {
  const ValueType& longer = a.rank() < b.rank() ? b : a;
  const ValueType& shorter = a.rank() < b.rank() ? a : b;
  std::vector<int64_t> sizes = longer.sizes;
  for (int64_t axis = 1; axis <= shorter.rank(); ++axis) {
    int64_t& size = sizes[longer.rank() - axis];
    const int64_t other = shorter.sizes[shorter.rank() - axis];
    TORCH_CHECK(size == other || size == 1 || other == 1, "expected sizes that match, got ",
                shape_of(a), " and ", shape_of(b));
    if (size == 1) size = other;
  }
  return sizes;
}

at::Tensor new_tensor(const ValueType& type, int64_t slack) {
  const at::Tensor memory =
      repq_fx::new_tensor({type.elements() + slack}, type.is_real ? at::kFloat : at::kByte);
  return memory.as_strided(type.sizes, type.strides(type.channels()));
}

at::Tensor Operand::view() const {
  return at::from_blob(data, type.sizes, type.strides(stride), at::TensorOptions(at::kByte));
}

}  // namespace repq_fx
