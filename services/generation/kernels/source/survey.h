// What a row of logits says at a glance.
#pragma once
#include <cmath>

#include "isa.h"

namespace MAAS_ISA {

// ln Σ e^x over `size` floats, by the shift that keeps it finite; `best` = place of the first of the largest.
inline float survey(const float* x, int size, int32_t* best, float* peak) {
  const int whole = size / LANES * LANES;
  F tops = all(x[0]);
  for (int i = 0; i < whole; i += LANES) tops = max(tops, load(x + i));
  float most = largest(tops);
  for (int i = whole; i < size; i++) most = x[i] > most ? x[i] : most;
  *best = 0, *peak = most;
  while (*best < size - 1 && x[*best] != most) ++*best;
  F total{};
  for (int i = 0; i < whole; i += LANES) total += exp(load(x + i) - most);
  float rest = sum(total);
  for (int i = whole; i < size; i++) rest += std::exp(x[i] - most);
  return most + std::log(rest);
}

}  // namespace MAAS_ISA
