// softmax(q·kᵀ/√d)·v over KV cells of 16 tokens, in bytes: queries and keys have a scale each, weights are cut into
// 65535 steps of the largest and multiplied as two bytes. The sums are exact integers or run over the keys in their
// order, so a query's bits depend neither on its neighbours in the batch nor on how its context was cut into passes.
//
// A cell: keys + 128 [head_dim/4][16 tokens][4], values [4][head_dim][4 tokens], key scales [16], value scales [16].
#pragma once
#include <algorithm>
#include <limits>
#include <type_traits>
#include <utility>

#include "isa.h"
#include "quantise.h"

namespace MAAS_ISA {

constexpr int QUERIES = 12;  // query heads that share one reading of the keys
constexpr int WIDEST = 256;  // head_dim at most

constexpr int64_t cell_size(int head_dim) { return (2 * LANES * (head_dim + sizeof(float)) + 63) / 64 * 64; }
constexpr int key_at(int token, int d) { return (d / 4 * LANES + token) * 4 + d % 4; }
constexpr int value_at(int head_dim, int token, int d) {
  return LANES * head_dim + (token / 4 * head_dim + d) * 4 + token % 4;
}
template <class Byte>
auto scales_at(Byte* cell, int head_dim) {  // of the keys, then of the values
  return reinterpret_cast<std::conditional_t<std::is_const_v<Byte>, const float, float>*>(cell + 2 * LANES * head_dim);
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
  uint8_t* steps;  // [blocks, N, 2, 16]: weights as upper and lower bytes
};

template <int N>
void scores_of(const Glance& g) {
  constexpr int AT_ONCE = N <= 4 ? 2 : 1;  // blocks: enough sums to keep the multipliers busy
  alignas(64) uint8_t bytes[WIDEST];
  int32_t queries[WIDEST / 4 * N], offset[N];  // four bytes each, [head_dim/4, N]: one pointer walks them all
  float scale[N];
  for (int n = 0; n < N; n++) {
    scale[n] = quantise(g.query[n], g.head_dim, bytes) / __builtin_sqrtf(static_cast<float>(g.head_dim));
    offset[n] = 0;
    for (int d = 0; d < g.head_dim; d++) bytes[d] -= 128, offset[n] -= 128 * static_cast<int8_t>(bytes[d]);
    for (int d = 0; d < g.head_dim / 4; d++) std::memcpy(queries + d * N + n, bytes + 4 * d, 4);
  }
  for (int block = g.from; block < g.to; block += AT_ONCE) {
    const int8_t* cells[AT_ONCE];
    I sums[AT_ONCE][N];
    for (int i = 0; i < AT_ONCE; i++) {
      cells[i] = g.cells + g.table[std::min(block + i, g.to - 1)] * g.stride;
      for (int n = 0; n < N; n++) sums[i][n] = all(offset[n]);
    }
    for (int d = 0; d < g.head_dim / 4; d++)
#pragma GCC unroll 2
      for (int i = 0; i < AT_ONCE; i++) {
        const I keys = load(reinterpret_cast<const int32_t*>(cells[i]) + d * LANES);
#pragma GCC unroll 12
        for (int n = 0; n < N; n++) sums[i][n] = dot4(sums[i][n], keys, all(queries[d * N + n]));
      }
    for (int i = 0; i < AT_ONCE && block + i < g.to; i++)
      for (int n = 0; n < N; n++)
        store(g.scores + ((block + i - g.from) * N + n) * LANES,
              to_float(sums[i][n]) * (load(scales_at(cells[i], g.head_dim)) * scale[n]));
  }
}

// One query's scores, `step` vectors from block to block → its weights in steps; keys out of sight weigh exactly 0.
// The scales of the values go into the weights. Returns what a step is worth.
inline float weigh(const Glance& g, int n, int step) {
  constexpr I ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const F nothing = all(-std::numeric_limits<float>::infinity());
  const int place = g.place[n], oldest = g.window ? place - g.window + 1 : 0;
  F peak = nothing, total{}, top{};
  float* at = g.scores + n * LANES;
  for (int block = g.from; block < g.to; block++, at += step * LANES) {
    const I key = ramp + block * LANES;
    const F seen = (key <= place) & (key >= oldest) ? load(at) : nothing;
    store(at, seen);
    peak = max(peak, seen);
  }
  const F most = all(largest(peak));
  at = g.scores + n * LANES;
  for (int block = g.from; block < g.to; block++, at += step * LANES) {
    const F share = exp(load(at) - most);
    total += share;
    const F weight = share * load(scales_at(g.cells + g.table[block] * g.stride, g.head_dim) + LANES);
    store(at, weight);
    top = max(top, weight);
  }
  const float largest_weight = largest(top), factor = largest_weight > 0 ? 65535.0f / largest_weight : 0.0f;
  uint8_t* to = g.steps + 2 * n * LANES;
  at = g.scores + n * LANES;
  for (int block = g.from; block < g.to; block++, at += step * LANES, to += 2 * step * LANES) {
    const I weight = __builtin_convertvector(nearest(load(at) * factor), I);
    *reinterpret_cast<BMem*>(to) = __builtin_convertvector(weight >> 8, BMem);
    *reinterpret_cast<BMem*>(to + LANES) = __builtin_convertvector(weight & 255, BMem);
  }
  return largest_weight / 65535.0f / sum(total);
}

template <int N>
void mix(const Glance& g, const float* worth) {
  constexpr int AT_ONCE = N <= 5 ? 2 : 1;  // vectors of the head
  for (int d = 0; d < g.head_dim; d += AT_ONCE * LANES) {
    I upper[AT_ONCE][N]{}, lower[AT_ONCE][N]{};
    for (int block = g.from; block < g.to; block++) {
      const int8_t* values = g.cells + g.table[block] * g.stride + value_at(g.head_dim, 0, d);
      const uint8_t* steps = g.steps + int64_t(block - g.from) * N * 2 * LANES;
      for (int four = 0; four < LANES / 4; four++, values += 4 * g.head_dim, steps += 4)
#pragma GCC unroll 2
        for (int i = 0; i < AT_ONCE; i++) {
          const I value = load(reinterpret_cast<const int32_t*>(values) + i * LANES);
#pragma GCC unroll 12
          for (int n = 0; n < N; n++) {
            upper[i][n] = dot4(upper[i][n], four_bytes(steps + 2 * n * LANES), value);
            lower[i][n] = dot4(lower[i][n], four_bytes(steps + (2 * n + 1) * LANES), value);
          }
        }
    }
    for (int i = 0; i < AT_ONCE; i++)
      for (int n = 0; n < N; n++)
        store(g.out[n] + d + i * LANES, fma(to_float(upper[i][n]), all(256.0f), to_float(lower[i][n])) * worth[n]);
  }
}

template <int N>
void look(const Glance& g) {
  float worth[N];
  scores_of<N>(g);
  for (int n = 0; n < N; n++) worth[n] = weigh(g, n, N);
  mix<N>(g, worth);
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
