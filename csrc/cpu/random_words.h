#pragma once

#include <cstdint>

namespace repq_fx {

// As whole counters are written, a buffer for words needs this much more than their number.
constexpr int64_t words_padding = 6;

// The Philox words of the `size` values from position `begin` of a tensor's memory on. Returns
// where in `words` the first value's is.
const uint32_t* random_words(uint64_t seed, int64_t begin, int64_t size, uint32_t* words);

}  // namespace repq_fx
