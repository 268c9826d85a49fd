#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "common/tensors.h"
#include "cpu/loops/simd_clones.h"
#include "cpu/loops/vector_math.h"
#include "cpu/operators.h"

namespace repq_fx {
namespace {

constexpr int lanes = 8;                   // Partial sums, the same on every processor.
constexpr int64_t grain_size = 1 << 13;    // Levels that pay for waking a thread.
constexpr double smoothing_filler = 1e-4;  // `SMOOTHING` in repq_fx/ops/kl_divergences.py.
constexpr double infinity = std::numeric_limits<double>::infinity();

double x_log_x(double x) { return x > 0.0 ? x * fast_log(x) : 0.0; }

// Sums over the first k bins, with counts c, for every k; the last one twice.
class PrefixSums {
 public:
  PrefixSums(const double* counts, int64_t bins, bool expand_all)
      : counts(counts),
        mass(bins + 2),
        filled(bins + 2),
        sharing(bins + 2),
        entropy_(bins + 1),
        taylor_(bins + 1) {
    for (int64_t k = 0; k < bins; ++k) {
      const double c = counts[k], one = c > 0.0 ? 1.0 : 0.0;
      mass[k + 1] = mass[k] + c;
      filled[k + 1] = filled[k] + one;
      sharing[k + 1] = sharing[k] + (expand_all ? 1.0 : one);
      entropy_[k + 1] = entropy_[k] + x_log_x(c);
      taylor_[k + 1] = taylor_[k];
      if (c > 0.0) {
        const double i = 1.0 / c;
        const Taylor terms{fast_log(c) + 1.0, i / 2, i * i / 6, i * i * i / 12};
        for (size_t n = 0; n < terms.size(); ++n) taylor_[k + 1][n] += terms[n];
        filled_counts_.push_back(c);
        smallest_ = std::min(smallest_, c);
      }
    }
    for (auto* sums : {&mass, &filled, &sharing}) sums->back() = (*sums)[bins];
  }

  // Of (c - t) ln (c - t) over the bins that are not empty; infinite if that leaves one empty.
  double entropy(int64_t k, double t) const {
    if (t == 0.0) return entropy_[k];
    if (t < largest_expanded * smallest_) {
      const auto& [first, second, third, fourth] = taylor_[k];
      return entropy_[k] - t * (first - t * (second + t * (third + t * fourth)));
    }
    double sum = 0.0;
    for (int64_t i = 0, end = static_cast<int64_t>(filled[k]); i < end; ++i) {
      if (filled_counts_[i] <= t) return infinity;
      sum += x_log_x(filled_counts_[i] - t);
    }
    return sum;
  }

  const double* counts;
  std::vector<double> mass;     // Of c.
  std::vector<double> filled;   // Of 1 where c > 0.
  std::vector<double> sharing;  // Of the bins among which Q shares mass: those filled, or all.

 private:
  // Below this share of the smallest count, Taylor's next term is less than 2**-54 of any count.
  // More is taken only where nine of ten bins are empty, and few are left to be summed one by one.
  static constexpr double largest_expanded = 0x1p-10;
  using Taylor = std::array<double, 4>;

  std::vector<double> entropy_;        // Of c ln c.
  std::vector<Taylor> taylor_;         // Of its derivatives, each divided by its factorial.
  std::vector<double> filled_counts_;  // c where c > 0.
  double smallest_ = infinity;         // Of them.
};

// The first bin of every level k: `ceil(k * kept / levels)`. The half keeps rounding from changing
// the integer.
REPQ_FX_SIMD_CLONES
void spread_levels(int32_t kept, int32_t levels, int32_t* starts) {
  const double inverse = 1.0 / levels, offset = levels - 0.5, bins = kept;
  for (int32_t k = 0; k < levels; ++k) {
    starts[k] = static_cast<int32_t>((k * bins + offset) * inverse);
  }
}

[[gnu::always_inline]] inline double p_log_q(double mass, double sharing) {
  return mass * fast_log(mass > 0.0 ? mass / sharing : 1.0);
}

// `p_log_q` of every level that starts at bin s and holds `size` bins, at 2 s, or one more, next to
// it.
REPQ_FX_SIMD_CLONES
void fill_terms(const double* mass, const double* sharing, int64_t starts, int64_t size,
                double* terms) {
  for (int64_t s = 0; s < starts; ++s) {
    const double* m = mass + s + size;
    const double* n = sharing + s + size;
    terms[2 * s] = p_log_q(m[0] - mass[s], n[0] - sharing[s]);
    terms[2 * s + 1] = p_log_q(m[1] - mass[s], n[1] - sharing[s]);
  }
}

// What smoothing takes from each bin of P and of Q that is not empty, and what empty bins hold.
struct Smoothing {
  double from_p = 0.0;
  double from_q = 0.0;
  double filler = 0.0;
};

struct CrossEntropy {
  double sum;  // Of p ln q over the bins that are not empty in Q.
  double smallest_q;
};

// P is without the values beyond the last bin. The number of levels is a multiple of `lanes`; those
// that fill it up have no mass.
REPQ_FX_SIMD_CLONES
CrossEntropy cross_entropy(const double* mass, const double* sharing, const double* filled,
                           int64_t levels, Smoothing smoothing) {
  double sums[lanes] = {}, smallest[lanes];
  std::fill_n(smallest, lanes, infinity);
  for (int64_t k = 0; k < levels; k += lanes) {
#pragma omp simd
    for (int lane = 0; lane < lanes; ++lane) {
      const double m = mass[k + lane], n = sharing[k + lane], f = filled[k + lane];
      const double p = m - smoothing.from_p * f + smoothing.filler * (n - f);
      const double q = m > 0.0 ? m / n - smoothing.from_q : 1.0;
      sums[lane] += p * fast_log(q);
      smallest[lane] = q < smallest[lane] ? q : smallest[lane];
    }
  }
  CrossEntropy result{sums[0], smallest[0]};
  for (int lane = 1; lane < lanes; ++lane) {
    result.sum += sums[lane];
    result.smallest_q = std::min(result.smallest_q, smallest[lane]);
  }
  return result;
}

struct Options {
  int32_t levels;
  bool reject, smooth, cfws;
  bool expand_all;
  bool spread;
  bool tabulate;  // Look up the terms of levels instead of computing them for every candidate.
};

// The divergences of a histogram. Each thread needs its own, for the levels of one candidate.
class Divergences {
 public:
  Divergences(const PrefixSums& sums, int64_t bins, const Options& options)
      : sums_(sums),
        bins_(bins),
        options_(options),
        starts_(options.levels + 1),
        mass_((options.levels + lanes - 1) / lanes * lanes),
        sharing_(mass_.size()),
        filled_(options.expand_all ? mass_.size() : 0),
        terms_(options.tabulate ? 2 * (bins + 1) : 0) {}

  // Of keeping the first `kept` bins; P and Q are those of repq_fx/ops/kl_divergences.py.
  double operator()(int32_t kept) {
    const double total = sums_.mass[bins_], inside = sums_.mass[kept], beyond = total - inside;
    fill_starts(kept);
    const double last = sums_.counts[kept - 1];
    const int64_t last_start = *std::find_if(starts_.rbegin(), starts_.rend(),
                                             [&](int32_t start) { return start < kept; });
    const double last_mass = inside - sums_.mass[last_start];
    const double last_sharing = sums_.sharing[kept] - sums_.sharing[last_start];
    const bool last_in_q = last > 0.0 || (options_.expand_all && last_mass > 0.0);
    if (inside == 0.0 || (options_.reject && !last_in_q && beyond > 0.0)) return infinity;
    // A share of P without its like in Q is left out, unless smoothing puts something there.
    const double added = last_in_q || options_.smooth ? beyond : 0.0;

    if (!options_.tabulate) fill_levels();
    const double empty_in_p = kept - sums_.filled[kept] - (last == 0.0 && added > 0.0 ? 1.0 : 0.0);
    double empty_in_q = 0.0;
    Smoothing smoothing;
    if (options_.smooth) {
      empty_in_q = kept - bins_in_q(kept);
      smoothing = {smoothing_filler * empty_in_p / (kept - empty_in_p),
                   smoothing_filler * empty_in_q / (kept - empty_in_q), smoothing_filler};
      if (smoothing.from_p >= 1.0 || smoothing.from_q >= 1.0) return infinity;
    }

    auto [p_log_q, smallest_q] = options_.tabulate ? look_up(kept) : compute(smoothing);
    const double last_p = last + added > 0.0 ? last + added - smoothing.from_p : 0.0;
    if (smallest_q <= 0.0 || last_p < 0.0) return infinity;
    double p_log_p = sums_.entropy(kept - 1, smoothing.from_p) + x_log_x(last_p);
    if (added > 0.0) {
      const double q = last_in_q ? last_mass / last_sharing - smoothing.from_q : smoothing.filler;
      p_log_q += (last > 0.0 ? added : last_p - smoothing.filler) * fast_log(q);
    }
    p_log_p += empty_in_p * x_log_x(smoothing.filler);
    p_log_q += empty_in_q * x_log_x(smoothing.filler);

    // P sums to `total`, Q to `inside`; normalizing both adds the ratio's logarithm.
    const double log_ratio = fast_log(total / inside) * ((inside + added) / total);
    return (p_log_p - p_log_q) / total + (options_.cfws ? log_ratio : -log_ratio);
  }

 private:
  void fill_starts(int32_t kept) {
    const int32_t levels = options_.levels;
    if (options_.spread) {
      spread_levels(kept, levels, starts_.data());
    } else {
      for (int32_t k = 0; k < levels; ++k) starts_[k] = k * (kept / levels);
    }
    starts_[levels] = kept;
  }

  void fill_levels() {
    for (int32_t k = 0; k < options_.levels; ++k) {
      const int32_t start = starts_[k], stop = starts_[k + 1];
      mass_[k] = sums_.mass[stop] - sums_.mass[start];
      sharing_[k] = sums_.sharing[stop] - sums_.sharing[start];
      if (options_.expand_all) filled_[k] = sums_.filled[stop] - sums_.filled[start];
    }
  }

  double bins_in_q(int32_t kept) const {
    if (!options_.expand_all) return sums_.filled[kept];
    double bins = 0.0;
    for (size_t k = 0; k < mass_.size(); ++k) bins += mass_[k] > 0.0 ? sharing_[k] : 0.0;
    return bins;
  }

  CrossEntropy compute(const Smoothing& smoothing) const {
    const auto& filled = options_.expand_all ? filled_ : sharing_;
    return cross_entropy(mass_.data(), sharing_.data(), filled.data(), std::ssize(mass_),
                         smoothing);
  }

  // Without smoothing. All levels but the last hold `size` bins or one more.
  CrossEntropy look_up(int32_t kept) {
    const int32_t levels = options_.levels, size = kept / levels;
    if (size != size_of_terms_) {
      fill_terms(sums_.mass.data(), sums_.sharing.data(), bins_ + 1 - size, size, terms_.data());
      size_of_terms_ = size;
    }
    double sums[4] = {};
    for (int32_t k = 0; k + 1 < levels; ++k) {
      sums[k % 4] += terms_[starts_[k] + starts_[k + 1] - size];
    }
    const int32_t last = starts_[levels - 1];
    const double rest =
        p_log_q(sums_.mass[kept] - sums_.mass[last], sums_.sharing[kept] - sums_.sharing[last]);
    return {((sums[0] + sums[1]) + (sums[2] + sums[3])) + rest, infinity};
  }

  const PrefixSums& sums_;
  const int64_t bins_;
  const Options options_;
  std::vector<int32_t> starts_;
  std::vector<double> mass_, sharing_, filled_;
  std::vector<double> terms_;
  int32_t size_of_terms_ = -1;
};

void check_choice(const char* name, std::string_view value,
                  std::initializer_list<std::string_view> choices) {
  TORCH_CHECK_VALUE(std::ranges::count(choices, value) == 1, "kl_divergences: expected ", name,
                    " to be one of ", c10::Join(", ", choices), ", got ", value);
}

// The words are those of `_check` in repq_fx/ops/kl_divergences.py.
void check(const at::Tensor& counts, const at::Tensor& kept, int64_t levels) {
  constexpr int64_t largest = 1 << 24;
  const std::array<std::tuple<const char*, const at::Tensor&, at::ScalarType>, 2> tensors{
      {{"counts", counts, at::kDouble}, {"kept", kept, at::kLong}}};
  for (const auto& [name, tensor, dtype] : tensors) {
    TORCH_CHECK_TYPE(tensor.scalar_type() == dtype, "kl_divergences: expected ",
                     c10::getDtypeNames(dtype).first, " ", name, ", got ",
                     c10::getDtypeNames(tensor.scalar_type()).first);
    TORCH_CHECK_VALUE(tensor.is_cpu(), "kl_divergences: expected ", name, " on cpu, got ",
                      tensor.device());
    TORCH_CHECK_VALUE(tensor.dim() == 1, "kl_divergences: expected ", name,
                      " of one dimension, got shape ", tensor.sizes());
  }
  for (const auto& [name, number] : {std::pair{"bins", counts.numel()}, {"levels", levels}}) {
    TORCH_CHECK_VALUE(1 <= number && number <= largest, "kl_divergences: expected ", name,
                      " from 1 to ", largest, ", got ", number);
  }
}

}  // namespace

at::Tensor kl_divergences_cpu(const at::Tensor& counts, const at::Tensor& kept, int64_t levels,
                              std::string_view divergence, std::string_view expand,
                              std::string_view remainder) {
  check(counts, kept, levels);
  check_choice("divergence", divergence, {"reject", "mask", "smooth", "cfws"});
  check_choice("expand", expand, {"filled", "all"});
  check_choice("remainder", remainder, {"spread", "last"});
  const int64_t bins = counts.numel(), candidates = kept.numel();
  // A table of the terms of all bins serves all candidates with as many bins in each level.
  const bool tabulate =
      divergence != "smooth" && candidates * levels > 2 * bins * (bins / levels + 1);
  const Options options{static_cast<int32_t>(levels),
                        divergence == "reject",
                        divergence == "smooth",
                        divergence == "cfws",
                        expand == "all",
                        remainder == "spread",
                        tabulate};
  const at::Tensor values = counts.contiguous(), sizes = kept.contiguous();
  const auto* size = sizes.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < candidates; ++i) {
    TORCH_CHECK_VALUE(1 <= size[i] && size[i] <= bins, "kl_divergences: expected kept from 1 to ",
                      bins, ", got ", size[i]);
  }
  const PrefixSums sums(values.const_data_ptr<double>(), bins, options.expand_all);
  const at::Tensor output = new_like(sizes, at::kDouble);
  auto* result = output.mutable_data_ptr<double>();
  at::parallel_for(0, candidates, std::max<int64_t>(1, grain_size / levels),
                   [&](int64_t begin, int64_t end) {
                     Divergences divergence_of(sums, bins, options);
                     for (int64_t i = begin; i < end; ++i) {
                       result[i] = divergence_of(static_cast<int32_t>(size[i]));
                     }
                   });
  return output;
}

}  // namespace repq_fx
