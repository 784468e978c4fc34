// softmax(q·kᵀ/√d)·v over KV cells of 16 tokens: keys and values in bytes with a scale each, queries and weights in
// two bytes. The sums are exact integers or run over the keys in their
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
constexpr int NEXT_CACHE = 2;  // the second, in GCC's words: the first fetches too few lines at once to keep memory busy

constexpr int64_t cell_size(int head_dim) { return (2 * LANES * (head_dim + sizeof(float)) + 63) / 64 * 64; }
constexpr int key_at(int token, int d) { return (d / 4 * LANES + token) * 4 + d % 4; }
constexpr int value_at(int head_dim, int token, int d) {
  return LANES * head_dim + (token / 4 * head_dim + d) * 4 + token % 4;
}
template <class Byte>
auto scales_at(Byte* cell, int head_dim) {  // of the keys, then of the values
  return reinterpret_cast<std::conditional_t<std::is_const_v<Byte>, const float, float>*>(cell + 2 * LANES * head_dim);
}

// The lines of a cell that take a token, long before it is written.
inline void fetch_slot(const int8_t* cell, int head_dim, int token) {
  for (int d = 0; d < head_dim; d += 4) __builtin_prefetch(cell + key_at(token, d), 1);
  for (int d = 0; d < head_dim; d += LANES) __builtin_prefetch(cell + value_at(head_dim, token, d), 1);
  __builtin_prefetch(scales_at(cell, head_dim), 1), __builtin_prefetch(scales_at(cell, head_dim) + LANES, 1);
}

// One KV head of one sequence, seen by up to QUERIES query heads at places first + [0, …].
struct Glance {
  const float* query[QUERIES];  // [head_dim] each
  float* out[QUERIES];          // [head_dim] each
  int place[QUERIES];
  int from, to;                 // blocks that any of them sees
  const int32_t* table;
  const int8_t* cells;  // of this layer and KV head
  const int8_t* next_cells;  // and table of what is looked at next: its keys are fetched meanwhile
  const int32_t* next_table;
  int64_t stride;       // from one block's cell to the next
  int head_dim, window;
  float* scores;  // [blocks, N, 16] for N query heads: a block's weights lie together
  uint8_t* steps;  // [blocks, N, 2, 16]: weights as upper and lower bytes
};

// A query in 32639 steps of its largest value as upper and lower bytes, both signed, and what keys + 128 add too much.
struct Query {
  int32_t four[2][WIDEST / 4];  // four bytes each
  int32_t offset[2];
  float scale;  // of a step, with 1 / √d
};

inline void cut(const float* x, int size, Query& to) {
  F peak{};
  for (int d = 0; d < size; d += LANES) peak = max(peak, absolute(load(x + d)));
  const float most = largest(peak), factor = most > 0 ? 32639.0f / most : 0.0f;
  I total[2]{};
  int8_t bytes[2][WIDEST];
  for (int d = 0; d < size; d += LANES) {
    const I value = __builtin_convertvector(nearest(load(x + d) * factor), I), upper = (value + 128) >> 8;
    const I lower = value - upper * 256;
    total[0] += upper, total[1] += lower;
    *reinterpret_cast<BMem*>(bytes[0] + d) = __builtin_convertvector(upper, BMem);
    *reinterpret_cast<BMem*>(bytes[1] + d) = __builtin_convertvector(lower, BMem);
  }
  for (int part = 0; part < 2; part++) {
    std::memcpy(to.four[part], bytes[part], size);
    to.offset[part] = -128 * sum(total[part]);
  }
  to.scale = most / 32639.0f / __builtin_sqrtf(static_cast<float>(size));
}

template <int N>
void scores_of(const Glance& g) {
  Query queries[N];
  for (int n = 0; n < N; n++) cut(g.query[n], g.head_dim, queries[n]);
  for (int block = g.from; block < g.to; block++) {
    const int8_t* cell = g.cells + g.table[block] * g.stride;
    const int8_t* next = g.cells + g.table[std::min(block + 2, g.to - 1)] * g.stride;
    I upper[N], lower[N];
    for (int n = 0; n < N; n++) upper[n] = all(queries[n].offset[0]), lower[n] = all(queries[n].offset[1]);
    for (int d = 0; d < g.head_dim / 4; d++) {
      __builtin_prefetch(next + d * 4 * LANES);
      __builtin_prefetch(cell + (d + g.head_dim / 4) * 4 * LANES, 0, NEXT_CACHE);
      const I keys = load(reinterpret_cast<const int32_t*>(cell) + d * LANES);
#pragma GCC unroll 12
      for (int n = 0; n < N; n++) {
        upper[n] = dot4(upper[n], keys, all(queries[n].four[0][d]));
        lower[n] = dot4(lower[n], keys, all(queries[n].four[1][d]));
      }
    }
    const F scales = load(scales_at(cell, g.head_dim));
    for (int n = 0; n < N; n++)
      store(g.scores + ((block - g.from) * N + n) * LANES,
            fma(to_float(upper[n]), all(256.0f), to_float(lower[n])) * (scales * queries[n].scale));
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
    const F scales = load(scales_at(g.cells + g.table[block] * g.stride, g.head_dim) + LANES);
    const F weight = share > 0.0f ? share * scales : F{};  // what others left behind need not be finite
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
      const int8_t* next = g.next_cells + g.next_table[block] * g.stride + 4 * LANES * d;
      for (int four = 0; four < LANES / 4; four++, values += 4 * g.head_dim, steps += 4) {
        for (int i = 0; i < AT_ONCE; i++) __builtin_prefetch(next + 64 * (four * AT_ONCE + i), 0, NEXT_CACHE);
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
