#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "common/tensors.h"
#include "cpu/loops/histogram_side.h"
#include "cpu/loops/simd_clones.h"
#include "cpu/loops/vector_math.h"
#include "cpu/operators.h"

// For powers 1 and 2 and for the cosine, the arithmetic is that of
// repq_fx/ops/reference/range_integrals.py step by step: each scale has a lane of its own, which
// adds the edges in their order.

namespace repq_fx {
namespace {

constexpr int lanes = 16;
constexpr int64_t grain_size = 1 << 17;  // Edges times scales that pay for waking a thread.
// Those of repq_fx/ops/reference/range_integrals.py.
constexpr int64_t direct_ends = 1024;
constexpr int64_t lattice = 256;

// Each measure of error has integrals of functions of x over the data. On an endless grid with a
// scale of 1, and with x = `steps + offset`, `add` adds `density` times the integrals from 0 to x;
// those of a side lie `lanes` apart. `units` takes them to another scale, and `tail` is what the
// data beyond the end of a grid adds.

struct AbsoluteError {
  static constexpr int integrals = 1;

  [[gnu::always_inline]] void add(double density, double steps, double offset, const double* sums,
                                  double* result) const {
    result[0] = sums[0] + density * (offset * std::fabs(offset) + steps * 0.5);
  }
  std::array<double, 1> units(double scale) const { return {scale * scale / 2.0}; }
  std::array<double, 1> tail(const Side&, const End& end, double) const { return {end.first}; }
};

struct SquaredError {
  static constexpr int integrals = 1;

  [[gnu::always_inline]] void add(double density, double steps, double offset, const double* sums,
                                  double* result) const {
    result[0] = sums[0] + density * (offset * offset * offset + steps * 0.25);
  }
  std::array<double, 1> units(double scale) const { return {scale * scale * scale / 3.0}; }
  std::array<double, 1> tail(const Side&, const End& end, double) const { return {end.second}; }
};

// With y what x is quantized to, (x - y) y and y y.
struct CosineError {
  static constexpr int integrals = 2;

  [[gnu::always_inline]] void add(double density, double steps, double offset, const double* sums,
                                  double* result) const {
    const double squares = steps * (steps * (offset + steps * (1.0 / 3.0)) + 1.0 / 6.0);
    result[0] = sums[0] + density * (steps * (offset * offset - 0.25));
    result[lanes] = sums[lanes] + density * squares;
  }
  std::array<double, 2> units(double scale) const {
    const double cube = scale * scale * scale;
    return {cube / 2.0, cube};
  }
  std::array<double, 2> tail(const Side&, const End& end, double position) const {
    return {position * end.first, position * position * end.mass};
  }
};

struct Tail {
  double value;
  double slope;  // Over the position of the end.
};

// The integral of (x - end)**power over the data x beyond an end, from the edges there.
REPQ_FX_SIMD_CLONES
Tail sum_tail(const double* edges, const double* falls, int64_t size, double end, double power) {
  constexpr int parts = 8;  // Sums that grow side by side, the same on every processor.
  double values[parts] = {}, slopes[parts] = {};
  const auto add = [&](int64_t k, int part) __attribute__((always_inline)) {
    const double excess = edges[k] - end;
    const double slope = falls[k] * fast_pow(excess, power);
    slopes[part] -= slope;
    values[part] += slope * excess / (power + 1.0);
  };
  int64_t k = 0;
  for (; k + parts <= size; k += parts) {
#pragma omp simd
    for (int part = 0; part < parts; ++part) add(k + part, part);
  }
  for (int part = 0; k < size; ++k, ++part) add(k, part);
  Tail sum{values[0], slopes[0]};
  for (int part = 1; part < parts; ++part) {
    sum.value += values[part];
    sum.slope += slopes[part];
  }
  return sum;
}

Tail power_tail(const Side& side, double end, double power) {
  const int64_t first = side.edges_up_to[static_cast<int64_t>(end)];
  return sum_tail(side.edges.data() + first, side.falls.data() + first,
                  std::ssize(side.edges) - first, end, power);
}

// Where there are many ends, their tails come from those on a lattice, which is denser towards
// zero, and from their slopes by cubic interpolation.
class TailLattice {
 public:
  TailLattice(const Side& side, double power)
      : bins_(static_cast<double>(side.bins)), positions_(lattice + 1), tails_(lattice + 1) {
    at::parallel_for(0, lattice + 1, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const double root = static_cast<double>(i) / lattice;
        positions_[i] = root * root * bins_;
        tails_[i] = power_tail(side, positions_[i], power);
      }
    });
  }

  double operator()(double end) const {
    const auto cell = static_cast<int64_t>(std::sqrt(end / bins_) * lattice);
    const int64_t left = std::min(cell, lattice - 1), right = left + 1;
    const double width = positions_[right] - positions_[left];
    const double u = (end - positions_[left]) / width, v = 1.0 - u;
    const double here = tails_[left].value * (1.0 + 2.0 * u) + tails_[left].slope * width * u;
    const double there = tails_[right].value * (1.0 + 2.0 * v) - tails_[right].slope * width * v;
    return here * v * v + there * u * u;
  }

 private:
  double bins_;
  std::vector<double> positions_;
  std::vector<Tail> tails_;
};

struct PowerError {
  static constexpr int integrals = 1;

  [[gnu::always_inline]] void add(double density, double steps, double offset, const double* sums,
                                  double* result) const {
    const double partial = fast_pow(std::fabs(offset), power + 1.0);
    result[0] = sums[0] + density * ((offset < 0.0 ? -partial : partial) + steps * step);
  }
  std::array<double, 1> units(double scale) const {
    return {std::pow(scale, power + 1.0) / (power + 1.0)};
  }
  std::array<double, 1> tail(const Side& side, const End&, double position) const {
    const double end = std::min(position, static_cast<double>(side.bins));
    return {tails ? (*tails)(end) : power_tail(side, end, power).value};
  }

  double power;
  double step;               // What each whole step adds: 2 / 2**(power + 1).
  const TailLattice* tails;  // Or null: each end alone.
};

// The integrals, without what lies beyond the first k edges, for every k:
// `[edges + 1, integrals, lanes]`.
template <class Error>
[[gnu::always_inline]] inline void sum_inside(const double* edges, const double* falls,
                                              int64_t size, const double* inverse_scales,
                                              Error error, double* sums) {
  constexpr int row = Error::integrals * lanes;
  std::fill_n(sums, row, 0.0);
  for (int64_t k = 0; k < size; ++k, sums += row) {
    const double edge = edges[k], fall = falls[k];
#pragma omp simd
    for (int lane = 0; lane < lanes; ++lane) {
      const double position = edge * inverse_scales[lane];
      const double steps = round_to_even(position);
      error.add(fall, steps, position - steps, sums + lane, sums + row + lane);
    }
  }
}

// Not one template: compilers clone plain functions only.
REPQ_FX_SIMD_CLONES
void sum_edges(const double* edges, const double* falls, int64_t size, const double* inverse_scales,
               AbsoluteError error, double* sums) {
  sum_inside(edges, falls, size, inverse_scales, error, sums);
}

REPQ_FX_SIMD_CLONES
void sum_edges(const double* edges, const double* falls, int64_t size, const double* inverse_scales,
               SquaredError error, double* sums) {
  sum_inside(edges, falls, size, inverse_scales, error, sums);
}

REPQ_FX_SIMD_CLONES
void sum_edges(const double* edges, const double* falls, int64_t size, const double* inverse_scales,
               CosineError error, double* sums) {
  sum_inside(edges, falls, size, inverse_scales, error, sums);
}

REPQ_FX_SIMD_CLONES
void sum_edges(const double* edges, const double* falls, int64_t size, const double* inverse_scales,
               PowerError error, double* sums) {
  sum_inside(edges, falls, size, inverse_scales, error, sums);
}

struct Candidates {
  const double* scales;
  int64_t size;
  // How many levels of the grid lie on this side of zero: `origin + direction * zero_point`.
  const int64_t* zero_points;
  int64_t scale_stride, zero_point_stride;
  int64_t zero_points_per_scale;
  int64_t origin, direction;

  double reach(int64_t scale, int64_t zero_point) const {
    const int64_t level = zero_points[scale * scale_stride + zero_point * zero_point_stride];
    return static_cast<double>(origin + direction * level);
  }
};

// Adds the integrals of one side to `results`, `[integrals, scales, zero points]`.
template <class Error>
void add_side(const Side& side, const Candidates& candidates, const Error& error, double* results) {
  const int64_t columns = candidates.zero_points_per_scale;
  const int64_t blocks = (candidates.size + lanes - 1) / lanes;
  const int64_t work = blocks * lanes * (std::ssize(side.edges) + columns);
  // Large scales take more edges and mostly come first: threads take turns.
  const int64_t threads =
      std::max<int64_t>(1, std::min<int64_t>({work / grain_size, at::get_num_threads(), blocks}));
  const auto add_blocks = [&](int64_t thread) {
    constexpr int row = Error::integrals * lanes;
    std::vector<double> sums((side.edges.size() + 1) * row);
    for (int64_t block = thread; block < blocks; block += threads) {
      const int64_t start = block * lanes, stop = std::min(start + lanes, candidates.size);
      double inverse_scales[lanes] = {}, furthest = 0.0;
      for (int64_t i = start; i < stop; ++i) {
        inverse_scales[i - start] = 1.0 / candidates.scales[i];
        for (int64_t j = 0; j < columns; ++j) {
          furthest = std::max(furthest, candidates.scales[i] * candidates.reach(i, j));
        }
      }
      const int64_t edges = End(side, furthest).edges;
      sum_edges(side.edges.data(), side.falls.data(), edges, inverse_scales, error, sums.data());
      for (int64_t i = start; i < stop; ++i) {
        const double scale = candidates.scales[i];
        const auto units = error.units(scale);
        for (int64_t j = 0; j < columns; ++j) {
          const double reach = candidates.reach(i, j), position = scale * reach;
          const End end(side, position);
          double sum[row];
          error.add(end.density, reach, 0.0, &sums[end.edges * row + (i - start)], sum);
          const auto tail = error.tail(side, end, position);
          for (int n = 0; n < Error::integrals; ++n) {
            results[(n * candidates.size + i) * columns + j] += sum[n * lanes] * units[n] + tail[n];
          }
        }
      }
    }
  };
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t thread = begin; thread < end; ++thread) add_blocks(thread);
  });
}

void add_integrals(const Side& side, const Candidates& candidates, std::optional<double> power,
                   double* results) {
  if (!power) return add_side(side, candidates, CosineError{}, results);
  if (*power == 1.0) return add_side(side, candidates, AbsoluteError{}, results);
  if (*power == 2.0) return add_side(side, candidates, SquaredError{}, results);
  std::optional<TailLattice> tails;
  if (candidates.size * candidates.zero_points_per_scale > direct_ends) tails.emplace(side, *power);
  const PowerError error{*power, std::exp2(-*power), tails ? &*tails : nullptr};
  add_side(side, candidates, error, results);
}

// The words are those of `_check` in repq_fx/ops/range_losses.py.
void check(const at::Tensor& counts, const at::Tensor& scales, const at::Tensor& zero_points,
           int64_t quant_min, int64_t quant_max, std::optional<double> power) {
  constexpr int64_t largest = 1 << 24;
  constexpr double largest_power = 16.0;
  const std::array<std::tuple<const char*, const at::Tensor&, at::ScalarType, int64_t>, 3> tensors{
      {{"counts", counts, at::kDouble, 1},
       {"scales", scales, at::kDouble, 1},
       {"zero_points", zero_points, at::kLong, 2}}};
  for (const auto& [name, tensor, dtype, dimensions] : tensors) {
    TORCH_CHECK_TYPE(tensor.scalar_type() == dtype, "range_losses: expected ",
                     c10::getDtypeNames(dtype).first, " ", name, ", got ",
                     c10::getDtypeNames(tensor.scalar_type()).first);
    TORCH_CHECK_VALUE(tensor.is_cpu(), "range_losses: expected ", name, " on cpu, got ",
                      tensor.device());
    TORCH_CHECK_VALUE(tensor.dim() == dimensions, "range_losses: expected ", name, " with ",
                      dimensions, " dimensions, got shape ", tensor.sizes());
  }
  TORCH_CHECK_VALUE(counts.numel() % 2 == 0 && 2 <= counts.numel() && counts.numel() <= 2 * largest,
                    "range_losses: expected an even number of counts from 2 to ", 2 * largest,
                    ", got ", counts.numel());
  TORCH_CHECK_VALUE(zero_points.size(0) == scales.numel(),
                    "range_losses: expected zero_points of shape [", scales.numel(), ", ...], got ",
                    zero_points.sizes());
  TORCH_CHECK_VALUE(-largest <= quant_min && quant_min < quant_max && quant_max <= largest,
                    "range_losses: expected ", -largest, " <= quant_min < quant_max <= ", largest,
                    ", got quant_min=", quant_min, ", quant_max=", quant_max);
  TORCH_CHECK_VALUE(!power || (0.0 < *power && *power <= largest_power),
                    "range_losses: expected power above 0 and up to ", largest_power, ", got ",
                    *power);
}

void check_values(const Candidates& candidates, int64_t quant_min, int64_t quant_max) {
  for (int64_t i = 0; i < candidates.size; ++i) {
    const double scale = candidates.scales[i];
    TORCH_CHECK_VALUE(scale > 0.0 && std::isfinite(scale),
                      "range_losses: expected positive and finite scales, got ", scale);
    for (int64_t j = 0; j < candidates.zero_points_per_scale; ++j) {
      const int64_t level =
          candidates.zero_points[i * candidates.scale_stride + j * candidates.zero_point_stride];
      TORCH_CHECK_VALUE(quant_min <= level && level <= quant_max,
                        "range_losses: expected zero_points from ", quant_min, " to ", quant_max,
                        ", got ", level);
    }
  }
}

}  // namespace

at::Tensor range_losses_cpu(const at::Tensor& counts, const at::Tensor& scales,
                            const at::Tensor& zero_points, int64_t quant_min, int64_t quant_max,
                            std::optional<double> power) {
  check(counts, scales, zero_points, quant_min, quant_max, power);
  const at::Tensor values = counts.contiguous(), steps = scales.contiguous();
  Candidates below{steps.const_data_ptr<double>(),
                   steps.numel(),
                   zero_points.const_data_ptr<int64_t>(),
                   zero_points.stride(0),
                   zero_points.stride(1),
                   zero_points.size(1),
                   -quant_min,
                   1};
  check_values(below, quant_min, quant_max);
  Candidates above = below;
  above.origin = quant_max;
  above.direction = -1;

  const int64_t bins = counts.numel() / 2;
  const double* zero = values.const_data_ptr<double>() + bins;
  const Side negative(zero - 1, -1, bins), positive(zero, 1, bins);
  const at::Tensor integrals =
      new_zeros({power ? 1 : 2, zero_points.size(0), zero_points.size(1)}, at::kDouble);
  auto* results = integrals.mutable_data_ptr<double>();
  add_integrals(negative, below, power, results);
  add_integrals(positive, above, power, results);
  if (power) return integrals[0];

  const double energy = negative.second[0] + positive.second[0];
  const at::Tensor losses = new_tensor(zero_points.sizes(), at::kDouble);
  auto* result = losses.mutable_data_ptr<double>();
  for (int64_t i = 0; i < losses.numel(); ++i) {
    const double squares = results[losses.numel() + i], products = results[i] + squares;
    const bool defined = squares > 0.0 && energy > 0.0;
    result[i] = 1.0 - (defined ? products / std::sqrt(energy * squares) : 0.0);
  }
  return losses;
}

}  // namespace repq_fx
