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
