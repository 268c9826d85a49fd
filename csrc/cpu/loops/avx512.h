// The intrinsics of AVX512, where functions can be written with them and chosen when the library
// runs.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define REPQ_FX_AVX512
#include <immintrin.h>
#endif
