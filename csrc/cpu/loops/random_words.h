#pragma once

#include <cstdint>

#include "common/rounding.h"
#include "cpu/loops/avx512.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx {

// As whole counters are written, a buffer for words needs this much more than their number.
constexpr int64_t words_padding = 6;

REPQ_FX_SIMD_CLONES
static void fill_words(uint64_t seed, uint64_t first, int64_t counters, uint32_t* words) {
  for (int64_t i = 0; i < counters; ++i) {
    uint32_t drawn[words_per_counter];
    philox(seed, first + i, drawn);
    for (int64_t j = 0; j < words_per_counter; ++j) words[i * words_per_counter + j] = drawn[j];
  }
}

#ifdef REPQ_FX_AVX512

// `philox` of eight counters at once, each word in the low half of 64 bits: what a product leaves
// in the high half is ignored by the next product. A compiler would shuffle the halves instead.
__attribute__((target("avx512f"))) static void fill_words_avx512(uint64_t seed, uint64_t first,
                                                                 int64_t counters,
                                                                 uint32_t* words) {
  constexpr int64_t lanes = 8;
  const __m512i factor0 = _mm512_set1_epi64(0xD2511F53), factor1 = _mm512_set1_epi64(0xCD9E8D57);
  const __m512i low = _mm512_set1_epi64(0xFFFFFFFF);
  const __m512i first_half = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  const __m512i second_half = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  int64_t i = 0;
  for (; i + lanes <= counters; i += lanes) {
    __m512i word0 = _mm512_add_epi64(_mm512_set1_epi64(static_cast<int64_t>(first + i)),
                                     _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    __m512i word1 = _mm512_srli_epi64(word0, 32);
    __m512i word2 = _mm512_setzero_si512(), word3 = word2;
    auto key0 = static_cast<uint32_t>(seed);
    auto key1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; ++round) {
      const __m512i product0 = _mm512_mul_epu32(word0, factor0);
      const __m512i product1 = _mm512_mul_epu32(word2, factor1);
      const __m512i high0 = _mm512_srli_epi64(product0, 32);
      const __m512i high1 = _mm512_srli_epi64(product1, 32);
      word0 = _mm512_xor_si512(_mm512_xor_si512(high1, word1), _mm512_set1_epi64(key0));
      word1 = product1;
      word2 = _mm512_xor_si512(_mm512_xor_si512(high0, word3), _mm512_set1_epi64(key1));
      word3 = product0;
      key0 += 0x9E3779B9;
      key1 += 0xBB67AE85;
    }
    const __m512i words01 =
        _mm512_or_si512(_mm512_and_si512(word0, low), _mm512_slli_epi64(word1, 32));
    const __m512i words23 =
        _mm512_or_si512(_mm512_and_si512(word2, low), _mm512_slli_epi64(word3, 32));
    uint32_t* const target = words + i * words_per_counter;
    _mm512_storeu_si512(target, _mm512_permutex2var_epi64(words01, first_half, words23));
    _mm512_storeu_si512(target + 16, _mm512_permutex2var_epi64(words01, second_half, words23));
  }
  fill_words(seed, first + i, counters - i, words + i * words_per_counter);
}

#endif

// The Philox words of the `size` values from position `begin` of a tensor's memory on. Returns
// where in `words` the first value's is.
inline const uint32_t* random_words(uint64_t seed, int64_t begin, int64_t size, uint32_t* words) {
  const int64_t skipped = begin % words_per_counter;
  const int64_t counters = (skipped + size + words_per_counter - 1) / words_per_counter;
  const uint64_t first = begin / words_per_counter;
#ifdef REPQ_FX_AVX512
  static const bool has_avx512 = __builtin_cpu_supports("avx512f");
  if (has_avx512) {
    fill_words_avx512(seed, first, counters, words);
    return words + skipped;
  }
#endif
  fill_words(seed, first, counters, words);
  return words + skipped;
}

}  // namespace repq_fx
