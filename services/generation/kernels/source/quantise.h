// Floats to bytes with a scale a row, alone or after the root-mean-square norm (Zhang & Sennrich 2019).
#pragma once
#include <cmath>

#include "isa.h"

namespace MAAS_ISA {

// 128 + round(127 · x / max |x|) as bytes; returns the scale, max |x| / 127.
inline float quantise(const float* x, int size, uint8_t* out) {
  F peak{};
  for (int i = 0; i < size; i += LANES) peak = max(peak, absolute(load(x + i)));
  const float most = largest(peak);
  const F factor = all(most > 0 ? 127.0f / most : 0.0f);
  for (int i = 0; i < size; i += LANES) {
    const I value = __builtin_convertvector(nearest(load(x + i) * factor), I) + 128;
    *reinterpret_cast<BMem*>(out + i) = __builtin_convertvector(value, BMem);
  }
  return most / 127.0f;
}

// In place: each block of `block` floats, a power of two from 16 to 512, by Sylvester's Hadamard matrix of ±1. Outliers,
// which one scale a row holds badly, are spread over their block.
inline void spread(float* x, int size, int block) {
  constexpr I swaps[] = {{1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14},
                         {2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13},
                         {4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11},
                         {8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7}};
  constexpr I ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  for (int i = 0; i < size; i += LANES) {
    F y = load(x + i);
    for (int stage = 0; stage < 4; stage++) {
      const F other = __builtin_shuffle(y, swaps[stage]);
      y = (ramp & (1 << stage)) != 0 ? other - y : other + y;
    }
    store(x + i, y);
  }
  for (int half = LANES; half < block; half *= 2)
    for (int start = 0; start < size; start += 2 * half)
      for (int i = start; i < start + half; i += LANES) {
        const F first = load(x + i), second = load(x + i + half);
        store(x + i, first + second), store(x + i + half, first - second);
      }
}

// x / sqrt(mean(x²) + eps) in bytes. Its largest value scales like x, so x itself is cut into steps.
inline float norm_quantise(const float* x, int size, float eps, uint8_t* out) {
  F squares{};
  for (int i = 0; i < size; i += LANES) squares = fma(load(x + i), load(x + i), squares);
  return quantise(x, size, out) / std::sqrt(sum(squares) / size + eps);
}

// x / sqrt(mean(x²) + eps) · weight in place; weight null = 1.
inline void norm(float* x, int size, float eps, const float* weight) {
  F squares{};
  for (int i = 0; i < size; i += LANES) squares = fma(load(x + i), load(x + i), squares);
  const F factor = all(1.0f / std::sqrt(sum(squares) / size + eps));
  for (int i = 0; i < size; i += LANES) {
    const F y = load(x + i) * factor;
    store(x + i, weight ? y * load(weight + i) : y);
  }
}

}  // namespace MAAS_ISA
