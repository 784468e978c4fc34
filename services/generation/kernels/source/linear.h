// Products of signed-byte weights with rows of bytes, each row with a scale of its own. Sums are exact integers, so
// a row's result depends on nothing but the row.
#pragma once
#include <utility>

#include "isa.h"
#include "model.h"

namespace MAAS_ISA {

using maas::Linear;

constexpr int PANEL = 2 * LANES;
constexpr int TILE = 8;  // rows whose sums and whose addresses fit the registers
#if defined(__AVX512F__)
constexpr int IN_REGISTERS = TILE;  // else they would pass through memory on their way in and out
#else
constexpr int IN_REGISTERS = 1;  // they do not fit
#endif

// Rows as bytes 128 + round(x / scale).
struct Rows {
  int count, size;
  const uint8_t* bytes;  // [count, size]
  const float* scales;   // [count]
};

// int32 sums [R][PANEL] of R rows with one panel; meanwhile `step` bytes a turn are fetched from `ahead` on, into the
// second cache if FAR, else into the first.
template <int R, bool FAR>
void tile(const uint8_t* rows, int stride, const int8_t* weights, int quads, const int32_t* offset,
          const int8_t* ahead, int step, int32_t* out) {
  constexpr int CACHE = FAR ? 2 : 3;  // in GCC's words
  I low[R], high[R];
#pragma GCC unroll IN_REGISTERS
  for (int r = 0; r < R; r++) low[r] = load(offset), high[r] = load(offset + LANES);
  for (int q = 0; q < quads; q++, weights += 4 * PANEL, ahead += step) {
    __builtin_prefetch(ahead, 0, CACHE);
    __builtin_prefetch(ahead + 64, 0, CACHE);
    I first = load(reinterpret_cast<const int32_t*>(weights));
    I second = load(reinterpret_cast<const int32_t*>(weights) + LANES);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      I x = four_bytes(rows + r * stride + 4 * q);
      low[r] = dot4(low[r], x, first);
      high[r] = dot4(high[r], x, second);
    }
  }
#pragma GCC unroll IN_REGISTERS
  for (int r = 0; r < R; r++) store(out + r * PANEL, low[r]), store(out + r * PANEL + LANES, high[r]);
}

using Tile = void (*)(const uint8_t*, int, const int8_t*, int, const int32_t*, const int8_t*, int, int32_t*);
template <bool FAR, int... R>
constexpr auto tiles_of(std::integer_sequence<int, R...>) {
  struct Table {
    Tile of[TILE + 1];
  };
  return Table{{nullptr, tile<R + 1, FAR>...}};
}
inline constexpr auto NEAR_TILES = tiles_of<false>(std::make_integer_sequence<int, TILE>{});
inline constexpr auto FAR_TILES = tiles_of<true>(std::make_integer_sequence<int, TILE>{});

// Whether products of so many rows wait for weights: the first cache fetches too few lines at once. One or two rows
// read so fast that the machine fetches by itself; of more than these, products take longer than memory.
inline bool waits(int rows) { return rows > 2 && rows <= 2 * TILE; }

// emit(row, low, high) for each row: the 32 outputs of `panel` as floats.
template <class Emit>
[[gnu::always_inline]] inline void product(const Linear& w, int panel, const Rows& x, Emit emit) {
  const int first = panel * PANEL;
  const int8_t* weights = w.weight + static_cast<int64_t>(first) * w.inputs;
  const F scale_low = load(w.scale + first), scale_high = load(w.scale + first + LANES);
  const F bias_low = w.bias ? load(w.bias + first) : F{}, bias_high = w.bias ? load(w.bias + first + LANES) : F{};
  const Tile* tile_of = waits(x.count) ? FAR_TILES.of : NEAR_TILES.of;
  int32_t sums[TILE * PANEL];
  const int tiles = (x.count + TILE - 1) / TILE, bytes = PANEL * w.inputs;
  for (int row = 0, n, done = 0; row < x.count; row += n, done++) {
    n = (x.count - row + tiles - done - 1) / (tiles - done);
    // The next panel comes in while this one is used, a part with each tile.
    const int8_t* ahead = weights + bytes + bytes / tiles * done;
    tile_of[n](x.bytes + static_cast<int64_t>(row) * x.size, x.size, weights, w.inputs / 4, w.offset + first, ahead,
                4 * PANEL / tiles, sums);
    for (int r = 0; r < n; r++) {
      const F scale = all(x.scales[row + r]);
      F low = fma(to_float(load(sums + r * PANEL)), scale_low * scale, bias_low);
      F high = fma(to_float(load(sums + r * PANEL + LANES)), scale_high * scale, bias_high);
      emit(row + r, low, high);
    }
  }
}

}  // namespace MAAS_ISA
