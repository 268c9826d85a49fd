// Elementary functions in plain arithmetic on doubles, without branches: compilers vectorize loops
// of them, and the results are the same on every processor and with every C library.
#pragma once

#include <bit>
#include <cstdint>

namespace repq_fx {

// |x| < 2**51 to the nearest integer, ties to even: from 2**52 on all numbers are integers.
[[gnu::always_inline]] inline double round_to_even(double x) {
  constexpr double integers = 0x1.8p52;
  return (x + integers) - integers;
}

constexpr int mantissa_bits = 52;
constexpr double ln_2 = 0x1.62e42fefa39efp-1;

// The natural logarithm of a positive normal number, to about an ulp; that of 1 is 0.
[[gnu::always_inline]] inline double fast_log(double x) {
  constexpr uint64_t one = 0x3ff0000000000000, sqrt_half = 0x3fe6a09e667f3bcd;  // Bits of both.
  constexpr uint64_t two_to_52 = 0x4330000000000000;
  const auto bits = std::bit_cast<uint64_t>(x);
  // x = 2**exponent * m with m from sqrt(1/2) to sqrt(2); the exponent here has a bias of 1023.
  const uint64_t exponent = (bits + (one - sqrt_half)) >> mantissa_bits;
  const double m = std::bit_cast<double>(bits - (exponent << mantissa_bits) + one);
  // An integer in the low bits of 2**52 is added to it. AVX2 cannot convert 64-bit integers.
  const double whole = std::bit_cast<double>(exponent | two_to_52) - (0x1p52 + 1023);
  // ln m = 2 artanh s = 2 (s + s**3 / 3 + s**5 / 5 + ...), the next term below 2**-55 of the sum;
  // in pairs of pairs, which need not wait for each other.
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s, z2 = z * z, z4 = z2 * z2;
  const double low = (1.0 + z * (1.0 / 3)) + z2 * (1.0 / 5 + z * (1.0 / 7));
  const double high = (1.0 / 9 + z * (1.0 / 11)) + z2 * (1.0 / 13 + z * (1.0 / 15));
  const double series = low + z4 * (high + z4 * (1.0 / 17 + z * (1.0 / 19)));
  return whole * ln_2 + 2.0 * s * series;
}

// e**x for x up to 709, with a relative error of about max(1, |x|) / 2**53; below -708 that of
// -708.
[[gnu::always_inline]] inline double fast_exp(double x) {
  constexpr double integers = 0x1.8p52, lowest = -708.0;
  constexpr int terms = 14;  // The next one is below 2**-57 of the sum.
  const double clamped = x > lowest ? x : lowest;
  const double shifted = clamped * (1.0 / ln_2) + integers;
  const double r = clamped - (shifted - integers) * ln_2;
  double series = 1.0;
#pragma GCC unroll 16
  for (int k = terms - 1; k > 0; --k) series = series * r * (1.0 / k) + 1.0;
  // The nearest integer is in the low bits of `shifted`; the others leave through the shift.
  const uint64_t exponent = std::bit_cast<uint64_t>(shifted) << mantissa_bits;
  return std::bit_cast<double>(std::bit_cast<uint64_t>(series) + exponent);
}

// A number that is not negative to a positive power, with the error of `fast_exp`.
[[gnu::always_inline]] inline double fast_pow(double x, double power) {
  const double result = fast_exp(power * fast_log(x > 0.0 ? x : 1.0));
  return x > 0.0 ? result : 0.0;
}

}  // namespace repq_fx
