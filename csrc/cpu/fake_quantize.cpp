#include "common/fake_quantize.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>

#include "common/float_types.h"
#include "common/tensors.h"
#include "cpu/loops/channel_grids.h"
#include "cpu/loops/fake_quantize.h"
#include "cpu/loops/float_values.h"
#include "cpu/loops/pieces.h"
#include "cpu/loops/random_words.h"
#include "cpu/loops/simd_clones.h"
#include "cpu/operators.h"

namespace repq_fx {
namespace {

// A piece of the tensor.
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

// `grids` is that of the first lane.
REPQ_FX_SIMD_CLONES
void process_piece(const float* values, int64_t size, int64_t lanes, Grids grids,
                   const uint32_t* words, const FakeQuantizeLoop& loop, float* result) {
  run_loop(Forward{values, size, lanes, grids, words, result}, loop);
}

template <typename T>
void fake_quantize_values(const T* values, const Blocks& blocks, const ChannelGrids& grids,
                          const FakeQuantizeLoop& loop, T* result) {
  at::parallel_for(0, blocks.count, block_grain(blocks), [&](int64_t first, int64_t last) {
    float value_buffer[piece_size], result_buffer[piece_size];
    uint32_t words[piece_size + words_padding];
    const auto process = [&](const Piece& piece) {
      const uint32_t* drawn =
          loop.is_random() ? random_words(loop.limits.seed, piece.begin, piece.size, words) : words;
      float* target = write_target(result + piece.begin, result_buffer);
      process_piece(read_floats(values + piece.begin, piece.size, value_buffer), piece.size,
                    piece.lanes, grids.from(piece.channel), drawn, loop, target);
      write_floats(result_buffer, piece.size, result + piece.begin);
    };
    for (int64_t block = first; block < last; ++block) for_each_piece(blocks, block, process);
  });
}

}  // namespace

at::Tensor fake_quantize_cpu(const at::Tensor& input, const at::Tensor& scale,
                             const at::Tensor& zero_point, int64_t quant_min, int64_t quant_max,
                             std::optional<int64_t> axis, int64_t rounding, double keep,
                             int64_t seed) {
  const FakeQuantizeLimits limits = check_fake_quantize(input, scale, zero_point, quant_min,
                                                        quant_max, axis, rounding, keep, seed);
  check_scale_values("fake_quantize", scale);
  const at::Tensor x = dense(input);
  const at::Tensor output = new_like(x);
  if (x.numel() == 0) return output;
  const Blocks blocks = channel_blocks(x, axis);
  const ChannelGrids grids(scale, zero_point, blocks);
  const FakeQuantizeLoop loop{limits, static_cast<Rounding>(rounding), blocks.width == 1};
  with_float_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    fake_quantize_values(x.const_data_ptr<T>(), blocks, grids, loop, output.mutable_data_ptr<T>());
  });
  return output;
}

}  // namespace repq_fx
