#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "common/fake_quantize.h"
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

// `grids` is that of the first lane; adds the shares of each lane to the sums.
REPQ_FX_SIMD_CLONES
void process_piece(const float* grads, const float* values, int64_t size, int64_t lanes,
                   Grids grids, const uint32_t* words, const FakeQuantizeLoop& loop,
                   float* grad_input, double* scale_sums, double* outside_sums) {
  run_loop(Backward{grads, values, size, lanes, grids, words, grad_input, scale_sums, outside_sums},
           loop);
}

// Leaves the sums of each block in the rows of `scale_sums` and `outside_sums`.
template <typename T>
void differentiate_values(const T* grads, const T* values, const Blocks& blocks,
                          const ChannelGrids& grids, const FakeQuantizeLoop& loop, T* grad_input,
                          double* scale_sums, double* outside_sums) {
  at::parallel_for(0, blocks.count, block_grain(blocks), [&](int64_t first, int64_t last) {
    float grad_buffer[piece_size], value_buffer[piece_size], result_buffer[piece_size];
    uint32_t words[piece_size + words_padding];
    std::vector<double> scale_lanes(blocks.lanes), outside_lanes(blocks.lanes);
    const auto process = [&](const Piece& piece) {
      const int64_t begin = piece.begin, size = piece.size;
      const uint32_t* drawn =
          loop.is_random() ? random_words(loop.limits.seed, begin, size, words) : words;
      const float* g = read_floats(grads + begin, size, grad_buffer);
      const float* x = read_floats(values + begin, size, value_buffer);
      float* target = write_target(grad_input + begin, result_buffer);
      process_piece(g, x, size, piece.lanes, grids.from(piece.channel), drawn, loop, target,
                    scale_lanes.data() + piece.lane, outside_lanes.data() + piece.lane);
      write_floats(result_buffer, size, grad_input + begin);
    };
    for (int64_t block = first; block < last; ++block) {
      std::fill(scale_lanes.begin(), scale_lanes.end(), 0.0);
      std::fill(outside_lanes.begin(), outside_lanes.end(), 0.0);
      for_each_piece(blocks, block, process);
      tree_sum(scale_lanes.data(), blocks.repeats(), blocks.width);
      tree_sum(outside_lanes.data(), blocks.repeats(), blocks.width);
      const int64_t row = blocks.sum_index(block);
      std::copy_n(scale_lanes.data(), blocks.width, scale_sums + row);
      std::copy_n(outside_lanes.data(), blocks.width, outside_sums + row);
    }
  });
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> fake_quantize_backward_cpu(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& scale,
    const at::Tensor& zero_point, int64_t quant_min, int64_t quant_max, std::optional<int64_t> axis,
    int64_t rounding, double keep, int64_t seed) {
  const FakeQuantizeLimits limits = check_fake_quantize(input, scale, zero_point, quant_min,
                                                        quant_max, axis, rounding, keep, seed);
  check_scale_values("fake_quantize", scale);
  check_like("fake_quantize", "grad", grad, input);
  const at::Tensor x = dense(input);
  const at::Tensor g = dense_like(grad, x);
  const at::Tensor grad_input = new_like(x);
  const at::Tensor grad_scale = new_zeros(scale.sizes(), scale.scalar_type()),
                   grad_zero_point = new_zeros(scale.sizes(), scale.scalar_type());
  if (x.numel() == 0) return {grad_input, grad_scale, grad_zero_point};

  const Blocks blocks = channel_blocks(x, axis);
  const ChannelGrids grids(scale, zero_point, blocks);
  const FakeQuantizeLoop loop{limits, static_cast<Rounding>(rounding), blocks.width == 1};
  std::vector<double> scale_sums(blocks.rows() * blocks.channels), outside_sums(scale_sums.size());
  with_float_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    differentiate_values(g.const_data_ptr<T>(), x.const_data_ptr<T>(), blocks, grids, loop,
                         grad_input.mutable_data_ptr<T>(), scale_sums.data(), outside_sums.data());
  });
  tree_sum(scale_sums.data(), blocks.rows(), blocks.channels);
  tree_sum(outside_sums.data(), blocks.rows(), blocks.channels);
  for (int64_t c = 0; c < blocks.channels; ++c) {
    grad_scale.mutable_data_ptr<float>()[c] = static_cast<float>(scale_sums[c]);
    grad_zero_point.mutable_data_ptr<float>()[c] =
        -grids.from(c).scale[0] * static_cast<float>(outside_sums[c]);
  }
  return {grad_input, grad_scale, grad_zero_point};
}

}  // namespace repq_fx
