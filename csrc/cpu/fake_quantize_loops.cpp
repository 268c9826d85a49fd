#include "cpu/fake_quantize_loops.h"

#include <algorithm>

#include "cpu/simd_clones.h"

namespace repq_fx {
namespace {

struct Forward {
  const float* values;
  int64_t size, lanes;
  Grids grids;
  const uint32_t* words;
  float* result;

  template <Rounding rounding, bool keeps, bool one_channel>
  REPQ_FX_INLINE void run(const FakeQuantizeLimits limits) const {
    const float inverse_scale = *grids.inverse_scale, scale = *grids.scale, zero = *grids.zero;
    const int64_t row_size = one_channel ? size : lanes;
    for (int64_t row = 0; row < size; row += row_size) {
      const int64_t count = std::min(row_size, size - row);
      const float* const x = values + row;
      const uint32_t* const word = words + row;
      float* const y = result + row;
      REPQ_FX_NO_OVERLAP
      for (int64_t i = 0; i < count; ++i) {
        constexpr bool is_random = keeps || rounding == Rounding::stochastic;
        y[i] = fake_quantize_value<rounding, keeps>(
            x[i], one_channel ? inverse_scale : grids.inverse_scale[i],
            one_channel ? scale : grids.scale[i], one_channel ? zero : grids.zero[i],
            is_random ? word[i] : 0, limits);
      }
    }
  }
};

struct Backward {
  const float* grads;
  const float* values;
  int64_t size, lanes;
  Grids grids;
  const uint32_t* words;
  float* grad_input;
  double* scale_sums;
  double* outside_sums;

  template <Rounding rounding, bool keeps, bool one_channel>
  REPQ_FX_INLINE void run(const FakeQuantizeLimits limits) const {
    constexpr int64_t together = 4;
    int64_t row = 0;
    for (; row + together * lanes <= size; row += together * lanes) {
      add_rows<together, rounding, keeps, one_channel>(row, lanes, limits);
    }
    for (; row < size; row += lanes) {
      add_rows<1, rounding, keeps, one_channel>(row, std::min(lanes, size - row), limits);
    }
  }

  // Several rows, so that the sums of a lane move from and to memory once for all of them.
  template <int64_t rows, Rounding rounding, bool keeps, bool one_channel>
  REPQ_FX_INLINE void add_rows(int64_t begin, int64_t count,
                               const FakeQuantizeLimits& limits) const {
    const float first_inverse_scale = *grids.inverse_scale, first_zero = *grids.zero;
    REPQ_FX_NO_OVERLAP
    for (int64_t i = 0; i < count; ++i) {
      const float inverse_scale = one_channel ? first_inverse_scale : grids.inverse_scale[i];
      const float zero = one_channel ? first_zero : grids.zero[i];
      double scale_sum = scale_sums[i], outside_sum = outside_sums[i];
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t k = begin + row * lanes + i;
        constexpr bool is_random = keeps || rounding == Rounding::stochastic;
        const FakeQuantizeGradient gradient = fake_quantize_gradient<rounding, keeps>(
            grads[k], values[k], inverse_scale, zero, is_random ? words[k] : 0, limits);
        grad_input[k] = gradient.input;
        scale_sum += gradient.scale;
        outside_sum += gradient.outside;
      }
      scale_sums[i] = scale_sum;
      outside_sums[i] = outside_sum;
    }
  }
};

template <Rounding rounding, typename Pass>
REPQ_FX_INLINE void run_rounding(const Pass& pass, const FakeQuantizeLoop& loop) {
  if (loop.limits.keep > 0) {
    loop.one_channel ? pass.template run<rounding, true, true>(loop.limits)
                     : pass.template run<rounding, true, false>(loop.limits);
  } else {
    loop.one_channel ? pass.template run<rounding, false, true>(loop.limits)
                     : pass.template run<rounding, false, false>(loop.limits);
  }
}

template <typename Pass>
REPQ_FX_INLINE void run(const Pass& pass, const FakeQuantizeLoop& loop) {
  switch (loop.rounding) {
    case Rounding::nearest_even:
      return run_rounding<Rounding::nearest_even>(pass, loop);
    case Rounding::half_up:
      return run_rounding<Rounding::half_up>(pass, loop);
    case Rounding::floor:
      return run_rounding<Rounding::floor>(pass, loop);
    case Rounding::stochastic:
      return run_rounding<Rounding::stochastic>(pass, loop);
  }
}

}  // namespace

REPQ_FX_SIMD_CLONES
void fake_quantize_piece(const float* values, int64_t size, int64_t lanes, Grids grids,
                         const uint32_t* words, const FakeQuantizeLoop& loop, float* result) {
  run(Forward{values, size, lanes, grids, words, result}, loop);
}

REPQ_FX_SIMD_CLONES
void fake_quantize_backward_piece(const float* grads, const float* values, int64_t size,
                                  int64_t lanes, Grids grids, const uint32_t* words,
                                  const FakeQuantizeLoop& loop, float* grad_input,
                                  double* scale_sums, double* outside_sums) {
  run(Backward{grads, values, size, lanes, grids, words, grad_input, scale_sums, outside_sums},
      loop);
}

}  // namespace repq_fx
