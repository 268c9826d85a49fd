// Functions for processors with the 8-bit products of AVX512-VNNI, in a library that runs on all.
#pragma once

// Where such functions can be written with intrinsics and chosen when the library runs. All files
// of this folder are empty elsewhere.
#if defined(__x86_64__) && defined(__GNUC__)
#define REPQ_FX_AVX512_VNNI
#include <immintrin.h>

#include "cpu/loops/simd_clones.h"
// For each function with these instructions.
#define REPQ_FX_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#endif
