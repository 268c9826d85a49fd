#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>

#include "common/soft_round.h"
#include "common/tensors.h"
#include "cpu/loops/channel_grids.h"
#include "cpu/loops/pieces.h"
#include "cpu/loops/simd_clones.h"
#include "cpu/operators.h"

namespace repq_fx {
namespace {

struct Pointers {
  const float* grads;
  const float* weights;
  const float* logits;
  float* result;
};

template <bool regularized, bool one_channel>
REPQ_FX_INLINE void differentiate_rows(const Pointers p, const Piece& piece, Grids grids,
                                       float regularizer_slope, const SoftRoundSettings settings) {
  const float inverse_scale = *grids.inverse_scale, scale = *grids.scale, zero = *grids.zero;
  for (int64_t row = 0; row < piece.size; row += piece.lanes) {
    const int64_t begin = piece.begin + row, count = std::min(piece.lanes, piece.size - row);
    REPQ_FX_NO_OVERLAP
    for (int64_t i = 0; i < count; ++i) {
      const int64_t k = begin + i;
      p.result[k] = soft_round_gradient<regularized>(
          p.grads[k], p.weights[k], p.logits[k],
          one_channel ? inverse_scale : grids.inverse_scale[i],
          one_channel ? scale : grids.scale[i], one_channel ? zero : grids.zero[i],
          regularizer_slope, settings);
    }
  }
}

// `grids` is that of the first lane.
REPQ_FX_SIMD_CLONES
void differentiate_piece(const Pointers& pointers, const Piece& piece, Grids grids,
                         bool one_channel, float regularizer_slope,
                         const SoftRoundSettings& settings) {
  if (settings.regularized && one_channel) {
    differentiate_rows<true, true>(pointers, piece, grids, regularizer_slope, settings);
  } else if (settings.regularized) {
    differentiate_rows<true, false>(pointers, piece, grids, regularizer_slope, settings);
  } else if (one_channel) {
    differentiate_rows<false, true>(pointers, piece, grids, regularizer_slope, settings);
  } else {
    differentiate_rows<false, false>(pointers, piece, grids, regularizer_slope, settings);
  }
}

}  // namespace

at::Tensor soft_round_backward_cpu(const at::Tensor& grad, const at::Tensor& grad_regularizer,
                                   const at::Tensor& weight, const at::Tensor& logits,
                                   const at::Tensor& scale, const at::Tensor& zero_point,
                                   int64_t quant_min, int64_t quant_max,
                                   std::optional<int64_t> axis, std::optional<double> beta) {
  const SoftRoundSettings settings =
      check_soft_round(weight, logits, scale, zero_point, quant_min, quant_max, axis, beta);
  check_scale_values("soft_round", scale);
  check_soft_round_grads(grad, grad_regularizer, weight);
  const at::Tensor w = dense(weight), v = dense_like(logits, w), g = dense_like(grad, w);
  const at::Tensor result = new_like(w);
  if (w.numel() == 0) return result;

  const Blocks blocks = channel_blocks(w, axis);
  const ChannelGrids grids(scale, zero_point, blocks);
  const float regularizer_slope = *grad_regularizer.const_data_ptr<float>() * settings.slope;
  const Pointers pointers{g.const_data_ptr<float>(), w.const_data_ptr<float>(),
                          v.const_data_ptr<float>(), result.mutable_data_ptr<float>()};
  at::parallel_for(0, blocks.count, block_grain(blocks), [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      for_each_piece(blocks, block, [&](const Piece& piece) {
        differentiate_piece(pointers, piece, grids.from(piece.channel), blocks.width == 1,
                            regularizer_slope, settings);
      });
    }
  });
  return result;
}

}  // namespace repq_fx
