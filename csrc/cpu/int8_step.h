// The steps of a program.
#pragma once

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cpu/int8_value.h"

namespace repq_fx {

// Scale, zero point, lowest and highest level.
using GridArgument = std::tuple<double, int64_t, int64_t, int64_t>;

// Before any product of the sizes is used. Sizes of 0 count as 1: an empty batch must not hide what
// the other sizes make of a full one.
inline void require_possible_size(const ValueType& type) {
  int64_t elements = 1;
  for (const int64_t size : type.sizes) {
    const bool wraps = __builtin_mul_overflow(elements, std::max<int64_t>(1, size), &elements);
    TORCH_CHECK_VALUE(size >= 0 && !wraps && elements <= most_bytes,
                      "program: expected values of up to ", most_bytes, " elements, got shape ",
                      shape_of(type));
  }
}

=======
>>>>>>> w-lowering
inline void require_image(const char* step, const ValueType& type) {
  TORCH_CHECK_NOT_IMPLEMENTED(type.is_image(), step,
                              ": expected an image of shape [N, C, H, W] or [C, H, W], got ",
                              shape_of(type));
}

// An empty image has no nearest pixel and no mean; an empty batch has.
inline void require_pixels(const char* step, const ValueType& type) {
  TORCH_CHECK_VALUE(type.height() > 0 && type.width() > 0, step,
                    ": expected an image with pixels, got ", shape_of(type));
}

}  // namespace repq_fx
