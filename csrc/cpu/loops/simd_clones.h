#pragma once

#include <cstdlib>  // Defines __GLIBC__ where it applies.

// Compiles a function once per instruction set and selects the best one when the library loads.
// Only code inlined into the function gains: a lambda or a called function keeps the baseline.
#if defined(__x86_64__) && defined(__GLIBC__)
#define REPQ_FX_SIMD_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define REPQ_FX_SIMD_CLONES
#endif

// For what must be inlined into a function of some instruction set to be compiled for it, such as a
// loop in a template, which cannot have `REPQ_FX_SIMD_CLONES` itself.
#if defined(__GNUC__)
#define REPQ_FX_INLINE inline __attribute__((always_inline))
#else
#define REPQ_FX_INLINE inline
#endif

// The arrays that the next loop reads and writes do not overlap.
#if defined(__GNUC__) && !defined(__clang__)
#define REPQ_FX_NO_OVERLAP _Pragma("GCC ivdep")
#else
#define REPQ_FX_NO_OVERLAP
#endif
