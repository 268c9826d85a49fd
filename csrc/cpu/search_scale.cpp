#include "common/search_scale.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "common/tensors.h"
#include "cpu/loops/simd_clones.h"
#include "cpu/operators.h"

namespace repq_fx {
namespace {

constexpr int block_size = 8;            // Values whose losses are added in registers.
constexpr int64_t chunk_size = 1 << 14;  // Values of a long row that one thread adds up.
constexpr int64_t grain_size = 1 << 9;   // Values that pay for waking a thread.
static_assert(chunk_size % block_size == 0);

using Losses = std::array<double, candidate_count>;

struct Candidates {
  std::array<float, candidate_count> scale;
  std::array<float, candidate_count> inverse_scale;
};

// Adds up what is pushed in pairs: neighbours, then neighbouring sums, and so on. As in a binary
// counter, level `k` holds the sum of `2**k` items while bit `k` of their number is set.
class PairSums {
 public:
  [[gnu::always_inline]] void push(const Losses& item) {
    Losses sums = item;
    int level = 0;
    for (int64_t bits = count_++; bits & 1; bits >>= 1) add(levels_[level++], sums);
    levels_[level] = sums;
  }

  // The sum of all; a lone item or sum stays as it is. Zeros without any.
  [[gnu::always_inline]] Losses total() const {
    Losses sums{};
    for (int level = 0; count_ >> level; ++level) {
      if (count_ >> level & 1) add(levels_[level], sums);
    }
    return sums;
  }

 private:
  [[gnu::always_inline]] static void add(const Losses& items, Losses& sums) {
    for (int c = 0; c < candidate_count; ++c) sums[c] += items[c];
  }

  std::array<Losses, 48> levels_;  // For more items than fit into memory.
  int64_t count_ = 0;
};

template <class Power>
[[gnu::always_inline]] inline Losses block_losses(const std::array<float, block_size>& x,
                                                  const std::array<double, block_size>& importance,
                                                  const Candidates& candidates,
                                                  const ScaleSearch& search) {
  Losses losses;
  for (int c = 0; c < candidate_count; ++c) {  // With SIMD.
    const float scale = candidates.scale[c], inverse_scale = candidates.inverse_scale[c];
    const auto loss = [&](int i) __attribute__((always_inline)) {
      return rounding_loss<Power>(x[i], importance[i], inverse_scale, scale, search);
    };
    losses[c] =
        ((loss(0) + loss(1)) + (loss(2) + loss(3))) + ((loss(4) + loss(5)) + (loss(6) + loss(7)));
  }
  return losses;
}

template <class Power>
[[gnu::always_inline]] inline Losses row_losses(const float* row, const double* importance,
                                                int64_t size, const Candidates& candidates,
                                                const ScaleSearch& search) {
  PairSums sums;
  std::array<float, block_size> x;
  std::array<double, block_size> weights;
  weights.fill(1.0);
  for (int64_t i = 0; i < size; i += block_size) {
    const int64_t count = std::min<int64_t>(block_size, size - i);
    if (count < block_size) x.fill(0.0f);
    std::copy_n(row + i, count, x.begin());
    if (importance != nullptr) std::copy_n(importance + i, count, weights.begin());
    sums.push(block_losses<Power>(x, weights, candidates, search));
  }
  return sums.total();
}

// Not one template: compilers clone plain functions only.
REPQ_FX_SIMD_CLONES
Losses absolute_losses(const float* row, const double* importance, int64_t size,
                       const Candidates& candidates, const ScaleSearch& search) {
  return row_losses<AbsolutePower>(row, importance, size, candidates, search);
}

REPQ_FX_SIMD_CLONES
Losses square_losses(const float* row, const double* importance, int64_t size,
                     const Candidates& candidates, const ScaleSearch& search) {
  return row_losses<SquarePower>(row, importance, size, candidates, search);
}

REPQ_FX_SIMD_CLONES
Losses power_losses(const float* row, const double* importance, int64_t size,
                    const Candidates& candidates, const ScaleSearch& search) {
  return row_losses<AnyPower>(row, importance, size, candidates, search);
}

float best_scale(const float* row, const double* importance, int64_t size, float widest,
                 const ScaleSearch& search) {
  Candidates candidates;
  for (int c = 0; c < candidate_count; ++c) {
    candidates.scale[c] = candidate_scale(widest, c);
    candidates.inverse_scale[c] = 1.0f / candidates.scale[c];
  }
  const auto losses_of = search.power == 1   ? absolute_losses
                         : search.power == 2 ? square_losses
                                             : power_losses;
  // The length of a chunk is a power of two: its sum is one of those of the whole row. Within a
  // loop over rows that runs in threads already, this one runs in the thread of its row.
  const int64_t chunks = (size + chunk_size - 1) / chunk_size;
  std::vector<Losses> losses(chunks);
  at::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t start = chunk * chunk_size;
      losses[chunk] = losses_of(row + start, importance == nullptr ? nullptr : importance + start,
                                std::min(chunk_size, size - start), candidates, search);
    }
  });
  PairSums sums;
  for (const Losses& chunk : losses) sums.push(chunk);

  int best = 0;
  double best_loss = std::numeric_limits<double>::infinity();
  const Losses total = sums.total();
  for (int c = 0; c < candidate_count; ++c) {
    if (total[c] < best_loss) {
      best = c;
      best_loss = total[c];
    }
  }
  return candidates.scale[best];
}

}  // namespace

at::Tensor search_scale_cpu(const at::Tensor& rows, const at::Tensor& widest, int64_t quant_min,
                            int64_t quant_max, double power,
                            const std::optional<at::Tensor>& importance) {
  const ScaleSearch search = scale_search(rows, widest, quant_min, quant_max, power, importance);
  const at::Tensor x = with_adjacent_columns(rows);
  const at::Tensor ends = widest.contiguous();
  const at::Tensor weights = importance ? with_adjacent_columns(*importance) : at::Tensor();
  const at::Tensor scales = new_like(ends);
  const float* values = x.const_data_ptr<float>();
  const float* widest_scales = ends.const_data_ptr<float>();
  const double* importances = importance ? weights.const_data_ptr<double>() : nullptr;
  const int64_t importance_stride = importance ? weights.stride(0) : 0;
  float* result = scales.mutable_data_ptr<float>();
  const int64_t size = x.size(1);
  const int64_t grain = std::max<int64_t>(1, grain_size / std::max<int64_t>(1, size));
  at::parallel_for(0, x.size(0), grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const double* row_importance =
          importances == nullptr ? nullptr : importances + r * importance_stride;
      result[r] =
          best_scale(values + r * x.stride(0), row_importance, size, widest_scales[r], search);
    }
  });
  return scales;
}

}  // namespace repq_fx
