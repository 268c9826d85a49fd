// A power of a positive number with the same bits on every device.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <numbers>

#include "common/host_device.h"

namespace repq_fx {

// The coefficients of a polynomial, that of `x**0` first.
template <int terms>
struct Series {
  double coefficients[terms];
};

// Of `atanh(sqrt(x)) / sqrt(x)`.
template <int terms>
REPQ_FX_HOST_DEVICE constexpr Series<terms> inverse_tangent_series() {
  Series<terms> series{};
  for (int i = 0; i < terms; ++i) series.coefficients[i] = 1.0 / (2 * i + 1);
  return series;
}

template <int terms>
REPQ_FX_HOST_DEVICE constexpr Series<terms> exponential_series() {
  Series<terms> series{};
  double factorial = 1.0;
  for (int i = 0; i < terms; factorial *= ++i) series.coefficients[i] = 1.0 / factorial;
  return series;
}

// Even and odd powers apart: two chains of half the length, which a processor follows at once.
template <int terms>
REPQ_FX_HOST_DEVICE inline double polynomial(double x, const Series<terms>& series) {
  static_assert(terms % 2 == 0);
  const double square = x * x;
  double even = series.coefficients[terms - 2], odd = series.coefficients[terms - 1];
  for (int i = terms - 4; i >= 0; i -= 2) {
    even = even * square + series.coefficients[i];
    odd = odd * square + series.coefficients[i + 1];
  }
  return even + odd * x;
}

// `base ** exponent` as `exp2(exponent * log2(base))`, to 12 digits, for a `base` that no float32
// number exceeds and `0 < exponent <= 16`. Of additions, multiplications and one division: unlike
// `pow`, which every math library rounds in its own way, it vectorizes and equals its twin `_power`
// in repq_fx/ops/search_scale.py. Below 2**-1022 it is 0. Zero stays zero, NaN stays NaN.
REPQ_FX_HOST_DEVICE inline double power(double base, double exponent) {
  constexpr int mantissa_bits = 52, bias = 1023;
  constexpr int64_t mantissa_mask = (int64_t{1} << mantissa_bits) - 1;
  constexpr int64_t one = int64_t{bias} << mantissa_bits;
  int64_t bits;
  std::memcpy(&bits, &base, sizeof(bits));
  const int64_t mantissa_of_one_to_two = (bits & mantissa_mask) | one;
  double mantissa;
  std::memcpy(&mantissa, &mantissa_of_one_to_two, sizeof(mantissa));
  // From 1/sqrt(2) to sqrt(2), where log(mantissa) = 2 atanh(ratio) = 2 (ratio + ratio**3/3 + ...).
  const bool high = mantissa > std::numbers::sqrt2;
  mantissa = high ? mantissa * 0.5 : mantissa;
  const auto biased = static_cast<int32_t>(bits >> mantissa_bits);
  const double whole = static_cast<double>(biased - bias) + (high ? 1.0 : 0.0);
  const double ratio = (mantissa - 1.0) / (mantissa + 1.0);
  constexpr Series<8> log_series = inverse_tangent_series<8>();  // The next term is below 2**-44.
  const double log_ratio = ratio * polynomial(ratio * ratio, log_series);
  const double log2_base = whole + log_ratio * (2.0 / std::numbers::ln2);

  // Both ends, and a NaN, become exponents whose bits mean 0 or infinity.
  double log2_power = exponent * log2_base;
  log2_power = log2_power > -bias ? log2_power : -bias;
  log2_power = log2_power < bias + 1 ? log2_power : bias + 1;
  const double nearest = ::nearbyint(log2_power);
  const double rest = (log2_power - nearest) * std::numbers::ln2;
  constexpr Series<12> exp_series = exponential_series<12>();  // The next term is below 2**-47.
  const double exponential = polynomial(rest, exp_series);
  const int64_t scale_bits = int64_t{static_cast<int32_t>(nearest) + bias} << mantissa_bits;
  double scale;
  std::memcpy(&scale, &scale_bits, sizeof(scale));
  return base > 0 ? exponential * scale : base;
}

}  // namespace repq_fx
