// What a pass reads: plain structures that Python fills (ctypes mirrors them). All arrays belong to the caller.
#pragma once
#include <cstdint>

namespace maas {

// y = W·x + b with W in signed bytes. Panels of 32 outputs: [panel][inputs/4][2][16 outputs][4 inputs].
struct Linear {
  int32_t inputs, outputs;   // outputs: a multiple of 32, filled up with zeros
  const int8_t* weight;
  const float* scale;        // [outputs]: W = scale · weight
  const int32_t* offset;     // [outputs]: -128 · Σ weight, since inputs are stored as 128 + x
  const float* bias;         // [outputs] or null
};

struct Layer {
  Linear qkv, out, up, down;
  const float *q_norm, *k_norm;  // [head_dim] or null
};

enum Activation : int32_t { SILU_GATED = 0, GELU_TANH = 1 };

struct Model {
  int32_t hidden, heads, kv_heads, head_dim, inner, layers, activation;
  int32_t window;  // 0 = all keys
  int32_t spread;  // block of quantise.h's spread over the inner layer
  float eps;
  const uint16_t* embedding;     // bfloat16 [vocab, hidden]
  const uint16_t* places;        // bfloat16 [context, hidden], learned positions, or null
  const float *cosine, *sine;    // [context, head_dim / 2] rotary, or null
  const Layer* layer;
  Linear head;
};

// What an adapter adds to a product: y += up·(down·x + its bias). down's outputs are ranks, filled up to panels.
struct LowRank {
  Linear down;
  int32_t rank;     // 0 = nothing
  const float* up;  // panels of the product's outputs: [panel][rank][32]
};

struct Change {
  LowRank qkv, out, up, down;
};

// Neighbouring rows of one adapter.
struct Adapted {
  int32_t first, count;
  const Change* change;  // [layers]
};

// Rows of one pass. A layer's cells: [block][kv head], each as attention.h has it.
struct Batch {
  int32_t rows, table_width;
  const int32_t *tokens, *positions;  // [rows]
  const int32_t* sequences;           // [rows]: which table
  const int32_t* tables;              // [sequences, table_width] block numbers
  int8_t* const* cells;               // [layers]
  float* hidden;                      // out: [rows, hidden], before the final norm
  int32_t parts, ranks;               // of `adapted`; its most ranks, filled up to panels
  const Adapted* adapted;
};

}  // namespace maas
