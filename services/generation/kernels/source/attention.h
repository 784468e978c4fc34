// KV cells: 16 tokens of one KV head in bytes, each token's key and value with a scale of its own:
// keys [head_dim][16], values [16][head_dim], key scales [16], value scales [16].
//
// softmax(q·kᵀ/√d)·v over KV blocks of 16 tokens. Each query adds up its keys in their order, so its bits depend
// neither on its neighbours in the batch nor on how its context was cut into passes.
#pragma once
#include <algorithm>
#include <limits>
#include <utility>

#include "isa.h"

namespace MAAS_ISA {

constexpr int QUERIES = 12;  // query heads that share one reading of the keys
constexpr int WIDEST = 256;  // head_dim at most

constexpr int64_t cell_size(int head_dim) { return 2 * LANES * (head_dim + sizeof(float)); }
inline const float* key_scales(const int8_t* cell, int head_dim) {
  return reinterpret_cast<const float*>(cell + 2 * LANES * head_dim);
}

// One KV head of one sequence, seen by up to QUERIES query heads at places first + [0, …].
struct Glance {
  const float* query[QUERIES];  // [head_dim] each
  float* out[QUERIES];          // [head_dim] each
  int place[QUERIES];
  int from, to;                 // blocks that any of them sees
  const int32_t* table;
  const int8_t* cells;  // of this layer and KV head
  int64_t stride;       // from one block's cell to the next
  int head_dim, window;
  float* scores;  // [blocks, N, 16] for N query heads: a block's weights lie together
};

template <int N>
void scores_of(const Glance& g) {
  constexpr int AT_ONCE = N <= 4 ? 2 : 1;  // blocks: enough sums to keep the multipliers busy
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(g.head_dim));
  float queries[N * WIDEST];  // [head_dim, N]: one pointer walks them all
  for (int d = 0; d < g.head_dim; d++)
    for (int n = 0; n < N; n++) queries[d * N + n] = g.query[n][d] * scale;
  for (int block = g.from; block < g.to; block += AT_ONCE) {
    const int8_t* keys[AT_ONCE];
    F sums[AT_ONCE][N]{};
    for (int i = 0; i < AT_ONCE; i++) keys[i] = g.cells + g.table[std::min(block + i, g.to - 1)] * g.stride;
    for (int d = 0; d < g.head_dim; d++)
#pragma GCC unroll 2
      for (int i = 0; i < AT_ONCE; i++) {
        const F key = from_bytes(keys[i] + d * LANES);
#pragma GCC unroll 12
        for (int n = 0; n < N; n++) sums[i][n] = fma(all(queries[d * N + n]), key, sums[i][n]);
      }
    for (int i = 0; i < AT_ONCE && block + i < g.to; i++)
      for (int n = 0; n < N; n++)
        store(g.scores + ((block + i - g.from) * N + n) * LANES, sums[i][n] * load(key_scales(keys[i], g.head_dim)));
  }
}

// One query's scores → weights in place, `step` floats from block to block; keys out of sight weigh exactly 0.
// The scales of the values go into the weights. Returns 1 / Σ.
inline float weigh(const Glance& g, float* scores, int step, int place) {
  constexpr I ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const F nothing = all(-std::numeric_limits<float>::infinity());
  const int oldest = g.window ? place - g.window + 1 : 0;
  F peak = nothing;
  float* at = scores;
  for (int block = g.from; block < g.to; block++, at += step) {
    const I key = ramp + block * LANES;
    const F seen = (key <= place) & (key >= oldest) ? load(at) : nothing;
    store(at, seen);
    peak = max(peak, seen);
  }
  const F most = all(largest(peak));
  F total{};
  at = scores;
  for (int block = g.from; block < g.to; block++, at += step) {
    const F weight = exp(load(at) - most);
    store(at, weight * load(key_scales(g.cells + g.table[block] * g.stride, g.head_dim) + LANES));
    total += weight;
  }
  return 1.0f / sum(total);
}

template <int N>
void mix(const Glance& g, const float* shares) {
  constexpr int AT_ONCE = N <= 6 ? 2 : 1;  // vectors of the head
  for (int d = 0; d < g.head_dim; d += AT_ONCE * LANES) {
    F sums[AT_ONCE][N]{};
    for (int block = g.from; block < g.to; block++) {
      const int8_t* values = g.cells + g.table[block] * g.stride + LANES * g.head_dim + d;
      const float* weights = g.scores + (block - g.from) * N * LANES;
      for (int token = 0; token < LANES; token++)
#pragma GCC unroll 2
        for (int i = 0; i < AT_ONCE; i++) {
          const F value = from_bytes(values + token * g.head_dim + i * LANES);
#pragma GCC unroll 12
          for (int n = 0; n < N; n++) sums[i][n] = fma(all(weights[n * LANES + token]), value, sums[i][n]);
        }
    }
    for (int i = 0; i < AT_ONCE; i++)
      for (int n = 0; n < N; n++) store(g.out[n] + d + i * LANES, sums[i][n] * shares[n]);
  }
}

template <int N>
void look(const Glance& g) {
  float shares[N];
  scores_of<N>(g);
  for (int n = 0; n < N; n++) shares[n] = weigh(g, g.scores + n * LANES, N * LANES, g.place[n]);
  mix<N>(g, shares);
}

using Look = void (*)(const Glance&);
template <int... N>
constexpr auto looks_of(std::integer_sequence<int, N...>) {
  struct Table {
    Look of[QUERIES + 1];
  };
  return Table{{nullptr, look<N + 1>...}};
}
inline constexpr auto LOOKS = looks_of(std::make_integer_sequence<int, QUERIES>{});

}  // namespace MAAS_ISA
