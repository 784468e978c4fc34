// What a row of logits says at a glance.
#pragma once
#include <algorithm>
#include <cmath>

#include "isa.h"

namespace MAAS_ISA {

// ln Σ e^x over `size` floats, by the shift that keeps it finite; `best` = place of the first of the largest.
inline float survey(const float* x, int size, int32_t* best, float* peak) {
  const int whole = size / LANES * LANES;
  F tops = all(x[0]);
  I places{};
  for (int i = 0; i < whole; i += LANES) {
    const F here = load(x + i);
    places = here > tops ? all(i) : places;
    tops = here > tops ? here : tops;
  }
  float most = largest(tops);
  *best = size - 1;
  for (int lane = 0; lane < LANES; lane++)
    if (tops[lane] == most) *best = std::min(*best, places[lane] + lane);
  for (int i = whole; i < size; i++)
    if (x[i] > most) most = x[i], *best = i;
  *peak = most;
  F total{};
  for (int i = 0; i < whole; i += LANES) total += exp(load(x + i) - most);
  float rest = sum(total);
  for (int i = whole; i < size; i++) rest += std::exp(x[i] - most);
  return most + std::log(rest);
}

}  // namespace MAAS_ISA
