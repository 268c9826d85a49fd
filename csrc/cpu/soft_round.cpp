#include "common/soft_round.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "common/tensors.h"
#include "cpu/loops/channel_grids.h"
#include "cpu/loops/pieces.h"
#include "cpu/loops/simd_clones.h"
#include "cpu/operators.h"

namespace repq_fx {
namespace {

template <bool regularized, bool one_channel>
REPQ_FX_INLINE void round_rows(const float* weights, const float* logits, const Piece& piece,
                               Grids grids, const SoftRoundSettings settings, float* result,
                               double* sums) {
  const float inverse_scale = *grids.inverse_scale, scale = *grids.scale, zero = *grids.zero;
  for (int64_t row = 0; row < piece.size; row += piece.lanes) {
    const int64_t count = std::min(piece.lanes, piece.size - row);
    REPQ_FX_NO_OVERLAP
    for (int64_t i = 0; i < count; ++i) {
      const SoftRounded rounded = soft_round_value<regularized>(
          weights[row + i], logits[row + i], one_channel ? inverse_scale : grids.inverse_scale[i],
          one_channel ? scale : grids.scale[i], one_channel ? zero : grids.zero[i], settings);
      result[row + i] = rounded.value;
      if (regularized) sums[i] += rounded.regularizer;
    }
  }
}

// Adds the shares in the regularizer of each lane to `sums`; `grids` is that of the first lane.
REPQ_FX_SIMD_CLONES
void round_piece(const float* weights, const float* logits, const Piece& piece, Grids grids,
                 bool one_channel, const SoftRoundSettings& settings, float* result, double* sums) {
  if (settings.regularized && one_channel) {
    round_rows<true, true>(weights, logits, piece, grids, settings, result, sums);
  } else if (settings.regularized) {
    round_rows<true, false>(weights, logits, piece, grids, settings, result, sums);
  } else if (one_channel) {
    round_rows<false, true>(weights, logits, piece, grids, settings, result, sums);
  } else {
    round_rows<false, false>(weights, logits, piece, grids, settings, result, sums);
  }
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> soft_round_cpu(const at::Tensor& weight,
                                                  const at::Tensor& logits, const at::Tensor& scale,
                                                  const at::Tensor& zero_point, int64_t quant_min,
                                                  int64_t quant_max, std::optional<int64_t> axis,
                                                  std::optional<double> beta) {
  const SoftRoundSettings settings =
      check_soft_round(weight, logits, scale, zero_point, quant_min, quant_max, axis, beta);
  check_scale_values("soft_round", scale);
  const at::Tensor w = dense(weight), v = dense_like(logits, w);
  const at::Tensor values = new_like(w), regularizer = new_zeros({}, at::kFloat);
  if (w.numel() == 0) return {values, regularizer};

  const Blocks blocks = channel_blocks(w, axis);
  const ChannelGrids grids(scale, zero_point, blocks);
  std::vector<double> sums(blocks.rows() * blocks.channels);
  const float* weights = w.const_data_ptr<float>();
  const float* rounding = v.const_data_ptr<float>();
  float* result = values.mutable_data_ptr<float>();
  at::parallel_for(0, blocks.count, block_grain(blocks), [&](int64_t first, int64_t last) {
    std::vector<double> lanes(blocks.lanes);
    for (int64_t block = first; block < last; ++block) {
      std::fill(lanes.begin(), lanes.end(), 0.0);
      for_each_piece(blocks, block, [&](const Piece& piece) {
        round_piece(weights + piece.begin, rounding + piece.begin, piece, grids.from(piece.channel),
                    blocks.width == 1, settings, result + piece.begin, lanes.data() + piece.lane);
      });
      tree_sum(lanes.data(), blocks.repeats(), blocks.width);
      std::copy_n(lanes.data(), blocks.width, sums.data() + blocks.sum_index(block));
    }
  });
  tree_sum(sums.data(), blocks.rows(), blocks.channels);
  tree_sum(sums.data(), blocks.channels, 1);
  regularizer.fill_(static_cast<float>(sums[0]));
  return {values, regularizer};
}

}  // namespace repq_fx
