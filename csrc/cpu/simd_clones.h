#pragma once

#include <cstdlib>  // Defines __GLIBC__ where it applies.

// Compiles a function once per instruction set and selects the best one when the library loads.
// Only code inlined into the function gains: a lambda or a called function keeps the baseline.
#if defined(__x86_64__) && defined(__GLIBC__)
#define REPQ_FX_SIMD_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define REPQ_FX_SIMD_CLONES
#endif
