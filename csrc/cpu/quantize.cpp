#include "common/quantize.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>

#include "common/tensors.h"
#include "cpu/loops/random_words.h"
#include "cpu/loops/simd_clones.h"
#include "cpu/operators.h"

namespace repq_fx {
namespace {

constexpr int64_t grain_size = 1 << 15;  // Values that pay for waking a thread.
constexpr int64_t piece_size = 4096;     // Values whose random words stay in the L1 cache.

// `words` is read by stochastic rounding.
REPQ_FX_SIMD_CLONES
void quantize_values(const float* values, uint8_t* codes, int64_t size, QuantizeGrid grid,
                     Rounding rounding, const uint32_t* words) {
  switch (rounding) {
    case Rounding::nearest_even:
      for (int64_t i = 0; i < size; ++i) {
        codes[i] = quantize_value<Rounding::nearest_even>(values[i], 0, grid);
      }
      break;
    case Rounding::half_up:
      for (int64_t i = 0; i < size; ++i) {
        codes[i] = quantize_value<Rounding::half_up>(values[i], 0, grid);
      }
      break;
    case Rounding::floor:
      for (int64_t i = 0; i < size; ++i) {
        codes[i] = quantize_value<Rounding::floor>(values[i], 0, grid);
      }
      break;
    case Rounding::stochastic:
      for (int64_t i = 0; i < size; ++i) {
        codes[i] = quantize_value<Rounding::stochastic>(values[i], words[i], grid);
      }
  }
}

}  // namespace

at::Tensor quantize_cpu(const at::Tensor& input, double scale, int64_t zero_point,
                        int64_t quant_min, int64_t quant_max, int64_t rounding, int64_t seed) {
  const QuantizeGrid grid = quantize_grid(input, scale, zero_point, quant_min, quant_max);
  const Rounding mode = checked_rounding("quantize", rounding);
  const at::Tensor x = dense(input);
  const at::Tensor output = new_like(x, quantize_dtype(quant_min));
  const float* values = x.const_data_ptr<float>();
  auto* codes = static_cast<uint8_t*>(output.mutable_data_ptr());
  at::parallel_for(0, x.numel(), grain_size, [&](int64_t begin, int64_t end) {
    uint32_t words[piece_size + words_padding];
    for (int64_t i = begin; i < end; i += piece_size) {
      const int64_t size = std::min(piece_size, end - i);
      const uint32_t* drawn = mode == Rounding::stochastic
                                  ? random_words(static_cast<uint64_t>(seed), i, size, words)
                                  : nullptr;
      quantize_values(values + i, codes + i, size, grid, mode, drawn);
    }
  });
  return output;
}

}  // namespace repq_fx
