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

// One stage of a Hadamard matrix within a vector.
template <int APART>
inline F stage(F x) {
  constexpr I ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return fma(x, (ramp & APART) != 0 ? all(-1.0f) : all(1.0f), swapped<APART>(x));
}

// All stages among N vectors that lie `apart` floats from each other; within them too if `inside`.
template <int N, bool INSIDE>
inline void stages(float* x, int apart) {
  F y[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; i++) {
    y[i] = load(x + i * apart);
    if (INSIDE) y[i] = stage<8>(stage<4>(stage<2>(stage<1>(y[i]))));
  }
#pragma GCC unroll 3
  for (int half = 1; half < N; half *= 2)
#pragma GCC unroll 8
    for (int i = 0; i < N; i++)
      if (!(i & half)) {
        const F first = y[i], second = y[i + half];
        y[i] = first + second, y[i + half] = first - second;
      }
#pragma GCC unroll 8
  for (int i = 0; i < N; i++) store(x + i * apart, y[i]);
}

// In place: each block of `block` floats, a power of two from 16 to 512, by Sylvester's Hadamard matrix of ±1. Outliers,
// which one scale a row holds badly, are spread over their block.
template <int NEAR = 8>
inline void spread(float* x, int size, int block) {
  if constexpr (NEAR > 1)
    if (block < NEAR * LANES) return spread<NEAR / 2>(x, size, block);
  for (int i = 0; i < size; i += NEAR * LANES) stages<NEAR, true>(x + i, LANES);
  for (int start = 0; start < size && block > NEAR * LANES; start += block)
    for (int i = start; i < start + NEAR * LANES; i += LANES)
      block == 4 * NEAR * LANES ? stages<4, false>(x + i, NEAR * LANES) : stages<2, false>(x + i, NEAR * LANES);
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
