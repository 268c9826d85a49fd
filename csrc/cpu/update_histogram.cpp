#include "common/update_histogram.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "common/tensors.h"
#include "cpu/loops/row_counter.h"
#include "cpu/loops/row_values.h"
#include "cpu/operators.h"

namespace repq_fx {
namespace {

constexpr int64_t grain_size = 1 << 16;  // Values that pay for waking a thread.

// The counts of the values of `x`, in parts where there are fewer tiles of rows than threads.
class CountedParts {
 public:
  CountedParts(const at::Tensor& x, const RowLayout& layout, const at::Tensor& exponents,
               int64_t bins, bool relu)
      : rows_(layout.rows), bins_(bins) {
    const int64_t rows_per_tile = alternates(layout) ? tile_rows : 1;
    const int64_t tiles = (rows_ + rows_per_tile - 1) / rows_per_tile;
    const int64_t useful = std::max<int64_t>(x.numel() / grain_size, 1);
    parts_ = (std::min<int64_t>(at::get_num_threads(), useful) + tiles - 1) / tiles;
    counts_ = new_zeros({parts_, rows_, bins_}, at::kLong);
    summaries_.resize(parts_ * rows_);

    const auto* exponent = exponents.const_data_ptr<int64_t>();
    const void* values = x.const_data_ptr();
    const CountRows count = count_rows_of(x.scalar_type());
    const int64_t tasks = tiles * parts_;
    const int64_t grain =
        std::max<int64_t>(tasks * grain_size / std::max<int64_t>(x.numel(), 1), 1);
    at::parallel_for(0, tasks, grain, [&](int64_t from, int64_t to) {
      for (int64_t task = from; task < to; ++task) {
        const int64_t part = task % parts_;
        const int64_t first = task / parts_ * rows_per_tile;
        const int64_t last = std::min(first + rows_per_tile, rows_);
        std::vector<RowCounter> counters;
        counters.reserve(last - first);
        for (int64_t row = first; row < last; ++row) {
          const PowerOfTwoBins grid{static_cast<int>(bins_ / 2), static_cast<int>(exponent[row])};
          counters.emplace_back(grid, counts(part, row));
        }
        count(values, layout, first, layout.size * part / parts_, layout.size * (part + 1) / parts_,
              relu, counters);
        for (int64_t row = first; row < last; ++row) {
          summaries_[part * rows_ + row] = counters[row - first].finish();
        }
      }
    });
  }

  // All parts of a row together, at the width of the widest.
  RowSummary summary(int64_t row) const {
    RowSummary all = summaries_[row];
    for (int64_t part = 1; part < parts_; ++part) all.include(summaries_[part * rows_ + row]);
    return all;
  }

  // Adds the counts of a row to those of `sums`, which are over bins of width `2**exponent`.
  void add_row(int64_t row, int exponent, int64_t* sums) const {
    for (int64_t part = 0; part < parts_; ++part) {
      int64_t* const counted = counts(part, row);
      RowSummary summary = summaries_[part * rows_ + row];
      merge_bins(counted, bins_ / 2, exponent - summary.exponent);
      summary.exponent = exponent;
      const auto [first, last] = summary.bins(static_cast<int>(bins_ / 2));
      for (int64_t bin = first; bin < last; ++bin) sums[bin] += counted[bin];
    }
  }

 private:
  int64_t* counts(int64_t part, int64_t row) const {
    return counts_.mutable_data_ptr<int64_t>() + (part * rows_ + row) * bins_;
  }

  int64_t rows_;
  int64_t bins_;
  int64_t parts_;
  at::Tensor counts_;                  // [parts, rows, bins]
  std::vector<RowSummary> summaries_;  // [parts, rows]
};

void check_state(const at::Tensor& counts, const at::Tensor& exponents, int64_t new_values) {
  const auto* exponent = exponents.const_data_ptr<int64_t>();
  const auto* count = counts.const_data_ptr<int64_t>();
  const int64_t bins = counts.size(-1);
  for (int64_t row = 0; row < exponents.numel(); ++row, count += bins) {
    check_exponent(exponent[row]);
    // In halves, whose sums cannot overflow.
    uint64_t high = 0, low = new_values;
    for (int64_t bin = 0; bin < bins; ++bin) {
      high += static_cast<uint64_t>(count[bin]) >> 32;
      low += static_cast<uint32_t>(count[bin]);
    }
    check_total(high + (low >> 32) < uint64_t{1} << 31);
  }
}

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor> update_histogram_cpu(
    at::Tensor& counts, at::Tensor& exponents, at::Tensor& zeros, const at::Tensor& input,
    std::optional<int64_t> axis, bool relu) {
  check_update_histogram(counts, exponents, zeros, input, axis);
  const at::Tensor x = dense(input);
  const RowLayout layout = row_layout(x, axis);
  check_state(counts, exponents, layout.size);
  const at::Tensor lowest = new_tensor(exponents.sizes(), at::kFloat);
  const at::Tensor highest = new_like(lowest);
  const at::Tensor non_finite = new_like(exponents);
  if (layout.rows == 0) return {lowest, highest, non_finite};

  const int64_t bins = counts.size(-1);
  const CountedParts counted(x, layout, exponents, bins, relu);
  bool finite = true;
  for (int64_t row = 0; row < layout.rows; ++row) {
    const RowSummary summary = counted.summary(row);
    lowest.mutable_data_ptr<float>()[row] = summary.lowest;
    highest.mutable_data_ptr<float>()[row] = summary.highest;
    non_finite.mutable_data_ptr<int64_t>()[row] = summary.non_finite;
    finite = finite && summary.non_finite == 0;
  }
  if (!finite) return {lowest, highest, non_finite};

  auto* const sums = counts.mutable_data_ptr<int64_t>();
  auto* const exponent = exponents.mutable_data_ptr<int64_t>();
  auto* const zero_count = zeros.mutable_data_ptr<int64_t>();
  at::parallel_for(0, layout.rows, grain_size / bins + 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const RowSummary summary = counted.summary(row);
      merge_bins(sums + row * bins, bins / 2, summary.exponent - static_cast<int>(exponent[row]));
      exponent[row] = summary.exponent;
      zero_count[row] += summary.zeros;
      counted.add_row(row, summary.exponent, sums + row * bins);
    }
  });
  return {lowest, highest, non_finite};
}

}  // namespace repq_fx
