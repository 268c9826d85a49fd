// The rounding modes and the random numbers of all kernels; repq_fx/ops/reference/rounding.py has
// the same.
#pragma once

#include <c10/util/Exception.h>

#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace repq_fx {

enum class Rounding : int64_t { nearest_even, half_up, floor, stochastic };

inline Rounding checked_rounding(const char* op, int64_t rounding) {
  TORCH_CHECK_VALUE(0 <= rounding && rounding <= 3, op, ": expected rounding from 0 to 3, got ",
                    rounding);
  return static_cast<Rounding>(rounding);
}

constexpr int64_t words_per_counter = 4;

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), with `seed`
// as key. The value at position `i` of a tensor's memory takes word `i % 4` of counter `i / 4`, so
// neither threads nor devices change it.
REPQ_FX_HOST_DEVICE inline void philox(uint64_t seed, uint64_t counter,
                                       uint32_t (&words)[words_per_counter]) {
  auto key0 = static_cast<uint32_t>(seed);
  auto key1 = static_cast<uint32_t>(seed >> 32);
  auto word0 = static_cast<uint32_t>(counter);
  auto word1 = static_cast<uint32_t>(counter >> 32);
  uint32_t word2 = 0, word3 = 0;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * word0;
    const uint64_t product1 = uint64_t{0xCD9E8D57} * word2;
    word0 = static_cast<uint32_t>(product1 >> 32) ^ word1 ^ key0;
    word1 = static_cast<uint32_t>(product1);
    word2 = static_cast<uint32_t>(product0 >> 32) ^ word3 ^ key1;
    word3 = static_cast<uint32_t>(product0);
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  words[0] = word0;
  words[1] = word1;
  words[2] = word2;
  words[3] = word3;
}

// From 0 to below 1, in steps of 2**-24.
REPQ_FX_HOST_DEVICE inline float uniform(uint32_t word) {
  return static_cast<float>(static_cast<int32_t>(word >> 8)) * 0x1p-24f;
}

// `scaled` as an integer. An infinity and a NaN stay.
template <Rounding rounding>
REPQ_FX_HOST_DEVICE inline float rounded(float scaled, [[maybe_unused]] uint32_t word) {
  if constexpr (rounding == Rounding::nearest_even) return ::nearbyintf(scaled);
  if constexpr (rounding == Rounding::half_up) return ::floorf(scaled + 0.5f);
  const float below = ::floorf(scaled);
  if constexpr (rounding == Rounding::floor) return below;
  // The difference is exact, so that an integer never moves.
  return below + (uniform(word) < scaled - below ? 1.0f : 0.0f);
}

}  // namespace repq_fx
