// The most 8-bit products per second of one core: independent sums, nothing from memory.
#include <immintrin.h>

#include <chrono>
#include <cstdint>
#include <cstdio>

int main() {
  using Sum = int32_t __attribute__((vector_size(64)));
  constexpr int sums = 24;
  constexpr long rounds = 2'000'000, products = 64;
  double best = 0;
  for (int repeat = 0; repeat < 9; ++repeat) {
    Sum values[sums] = {};
    __m512i a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
    const auto start = std::chrono::steady_clock::now();
    for (long round = 0; round < rounds; ++round) {
#pragma GCC unroll 24
      for (int i = 0; i < sums; ++i) {
        asm volatile("vpdpbusd %2, %1, %0" : "+v"(values[i]) : "v"(a), "v"(b));
      }
    }
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
    const double rate = rounds * sums * products / time.count();
    if (rate > best) best = rate;
  }
  std::printf("%.0f\n", best);
}
