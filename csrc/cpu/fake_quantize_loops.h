// The loops over one piece of a tensor, compiled for each instruction set.
#pragma once

#include <cstdint>

#include "common/fake_quantize.h"

namespace repq_fx {

struct FakeQuantizeLoop {
  FakeQuantizeLimits limits;
  Rounding rounding;
  bool one_channel;  // Else each lane has its own.

  bool is_random() const { return rounding == Rounding::stochastic || limits.keep > 0; }
};

// `grids` is that of the first lane.
void fake_quantize_piece(const float* values, int64_t size, int64_t lanes, Grids grids,
                         const uint32_t* words, const FakeQuantizeLoop& loop, float* result);

// Also adds the shares of each lane to `scale_sums` and `outside_sums`.
void fake_quantize_backward_piece(const float* grads, const float* values, int64_t size,
                                  int64_t lanes, Grids grids, const uint32_t* words,
                                  const FakeQuantizeLoop& loop, float* grad_input,
                                  double* scale_sums, double* outside_sums);

}  // namespace repq_fx
