// A function from levels to levels by a table, such as an activation function that follows no sums.
#pragma once

#include <array>
#include <cstdint>

#include "cpu/int8/image.h"
#include "cpu/int8/kernels/epilogue.h"
#include "cpu/loops/simd_clones.h"

namespace repq_fx {

#ifdef REPQ_FX_AVX512
namespace avx512 {

// Chooses bytes of a table of 256. `vpermi2w` chooses among 64 words by the low six bits of a word:
// word i holds the entries i and i + 128, bit 6 of a level tells which half of the words is meant,
// and bit 7 which byte.
struct LookupWords {
  __m512i words[4];

  REPQ_FX_VNNI REPQ_FX_INLINE explicit LookupWords(const uint8_t* bytes) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) words[i] = _mm512_load_si512(bytes + 64 * i);
  }

  // The words for the low bytes of `levels`.
  REPQ_FX_VNNI REPQ_FX_INLINE __m512i choose(__m512i levels) const {
    const __mmask32 upper = _mm512_test_epi16_mask(levels, _mm512_set1_epi16(64));
    return _mm512_mask_mov_epi16(_mm512_permutex2var_epi16(words[0], levels, words[1]), upper,
                                 _mm512_permutex2var_epi16(words[2], levels, words[3]));
  }

  REPQ_FX_VNNI REPQ_FX_INLINE __m512i operator()(__m512i levels) const {
    constexpr __mmask64 odd = 0xAAAAAAAAAAAAAAAA;
    const __m512i even_words = choose(levels);
    const __m512i odd_words = choose(_mm512_srli_epi16(levels, 8));
    const __m512i low = _mm512_mask_mov_epi8(even_words, odd, _mm512_slli_epi16(odd_words, 8));
    const __m512i high = _mm512_mask_mov_epi8(_mm512_srli_epi16(even_words, 8), odd, odd_words);
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(levels), high);
  }
};

// `count` levels in each of `pixels` pixels.
REPQ_FX_VNNI inline void lookup(const uint8_t* table_words, const uint8_t* input,
                                int64_t input_stride, int64_t pixels, int64_t count,
                                uint8_t* output, int64_t output_stride) {
  const LookupWords words(table_words);
  const __mmask64 rest = (uint64_t{1} << count % 64) - 1;
  for (; pixels > 0; --pixels, input += input_stride, output += output_stride) {
    int64_t i = 0;
    for (; i + 64 <= count; i += 64) {
      _mm512_storeu_si512(output + i, words(_mm512_loadu_si512(input + i)));
    }
    if (rest == 0) continue;
    _mm512_mask_storeu_epi8(output + i, rest, words(_mm512_maskz_loadu_epi8(rest, input + i)));
  }
}

}  // namespace avx512
#endif

class Int8Lookup {
 public:
  explicit Int8Lookup(const std::array<uint8_t, 256>& table) : table_(table) {
    for (int64_t i = 0; i < 128; ++i) {
      words_[2 * i] = table[i];
      words_[2 * i + 1] = table[i + 128];
    }
  }

  // The pixels from `first` to `last`, counted over the whole batch.
  void run(const InputImage& input, const OutputImage& output, int64_t first, int64_t last) const {
    int64_t pixels = last - first, count = input.channels;
    // Pixels without gaps are one.
    if (input.stride == count && output.stride == count) {
      count *= pixels;
      pixels = 1;
    }
    const uint8_t* from = input.data + first * input.stride;
    uint8_t* to = output.data + first * output.stride;
#ifdef REPQ_FX_AVX512
    if (has_vnni()) {
      avx512::lookup(words_.data(), from, input.stride, pixels, count, to, output.stride);
      return;
    }
#endif
    for (; pixels > 0; --pixels, from += input.stride, to += output.stride) {
      for (int64_t i = 0; i < count; ++i) to[i] = table_[from[i]];
    }
  }

 private:
  std::array<uint8_t, 256> table_;
  alignas(64) std::array<uint8_t, 256> words_;  // The table in the order of `LookupWords`.
};

}  // namespace repq_fx
