#include "cpu/int8/avx512_vnni/target.h"

#ifdef REPQ_FX_AVX512_VNNI
#include <cstdint>

#include "cpu/int8/avx512_vnni/kernels.h"

namespace repq_fx::avx512_vnni {
namespace {

// Chooses bytes of a table of 256. `vpermi2w` chooses among 64 words by the low six bits of a word:
// word i holds the entries i and i + 128, bit 6 of a level tells which half of the words is meant,
// and bit 7 which byte.
struct LookupWords {
  __m512i words[4];

  REPQ_FX_VNNI REPQ_FX_INLINE explicit LookupWords(const LevelTable& table) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      words[i] = _mm512_or_si512(wide(table.data() + 32 * i),
                                 _mm512_slli_epi16(wide(table.data() + 128 + 32 * i), 8));
    }
  }

  // 32 bytes as words.
  REPQ_FX_VNNI REPQ_FX_INLINE static __m512i wide(const uint8_t* bytes) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)));
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

}  // namespace

REPQ_FX_VNNI
void lookup(const LevelRow& row, const LevelTable& table) {
  const LookupWords words(table);
  const __mmask64 rest = (uint64_t{1} << row.channels % 64) - 1;
  const uint8_t* input = row.input;
  uint8_t* output = row.output;
  for (int64_t pixels = row.pixels, count = row.channels; pixels > 0; --pixels) {
    int64_t i = 0;
    for (; i + 64 <= count; i += 64) {
      _mm512_storeu_si512(output + i, words(_mm512_loadu_si512(input + i)));
    }
    if (rest != 0) {
      _mm512_mask_storeu_epi8(output + i, rest, words(_mm512_maskz_loadu_epi8(rest, input + i)));
    }
    input += row.input_stride;
    output += row.output_stride;
  }
}

}  // namespace repq_fx::avx512_vnni
#endif
