// A whole pass of a language model: rows of tokens → hidden states, with keys and values put into their blocks.
// One source, compiled for each instruction set.
#include <algorithm>
#include <memory>
#include <vector>

#include "attention.h"
#include "linear.h"
#include "pass.h"
#include "quantise.h"
#include "survey.h"

namespace MAAS_ISA {

using maas::Adapted;
using maas::Batch;
using maas::Change;
using maas::Layer;
using maas::LowRank;
using maas::Model;
using maas::Walker;

namespace {

// Neighbouring rows of one sequence whose query heads share the reading of a KV head.
struct Group {
  int first, count;
};


inline F silu(F x) { return x / (exp(-x) + 1.0f); }
// GELU's tanh form (Hendrycks & Gimpel 2016), as GPT-2 has it.
inline F gelu(F x) {
  const F y = fma(x * x * x, all(0.044715f), x) * 0.79788456080286536f;
  return x * (1.0f - 1.0f / (exp(y + y) + 1.0f));
}

class Pass {
 public:
  Pass(const Model& model, const Batch& batch, maas::Workspace& room, int threads)
      : m(model), b(batch), width(model.layer[0].qkv.outputs), wide(model.heads * model.head_dim), scores(room.scores) {
    const int64_t rows = b.rows;
    bytes = room.bytes.at_least(rows * std::max({m.hidden, m.inner, wide}));
    scales = room.scales.at_least(rows);
    mixed = room.mixed.at_least(rows * std::max(width, m.inner));
    attended = room.attended.at_least(rows * wide);
    thin = room.thin.at_least(rows * b.ranks);
    scores.resize(threads);
    share = std::max(1, std::min(QUERIES / (m.heads / m.kv_heads), 8));
    for (int row = 0; row < b.rows; row++) join(row);
    if (b.parts) adopt();
  }

  void walk(Walker& walker) {
    walker.each(b.rows, 8, [&](int row) { embed(row); });
    for (int layer = 0; layer < m.layers; layer++) {
      const Layer& l = m.layer[layer];
      normalise(walker);
      multiply(walker, l.qkv, layer, &Change::qkv, m.hidden, [&](int row, int at, F low, F high) { put(width, row, at, low, high); });
      walker.each(b.rows, 8, [&](int row) { place(row, layer); });
      walker.each(int(groups.size()) * m.kv_heads, groups.size() < 16 ? 1 : m.kv_heads, [&](int i) { attend(i, layer, scores[walker.index]); });
      narrow(walker, attended, wide);
      multiply(walker, l.out, layer, &Change::out, wide, [&](int row, int at, F low, F high) { add(row, at, low, high); });
      normalise(walker);
      multiply(walker, l.up, layer, &Change::up, m.hidden, [&](int row, int at, F low, F high) { activate(row, at, low, high); });
      walker.each(b.rows, 4, [&](int row) { squeeze(row); });
      multiply(walker, l.down, layer, &Change::down, m.inner, [&](int row, int at, F low, F high) { add(row, at, low, high); });
    }
  }

 private:
  float* hidden(int row) const { return b.hidden + int64_t(row) * m.hidden; }

  void join(int row) {
    if (!groups.empty()) {
      Group& last = groups.back();
      const int before = last.first + last.count - 1;
      if (last.count < share && b.sequences[before] == b.sequences[row] && b.positions[before] + 1 == b.positions[row]) {
        last.count++;
        return;
      }
    }
    groups.push_back({row, 1});
  }

  void embed(int row) {
    const uint16_t* token = m.embedding + int64_t(b.tokens[row]) * m.hidden;
    const uint16_t* spot = m.places ? m.places + int64_t(b.positions[row]) * m.hidden : nullptr;
    for (int i = 0; i < m.hidden; i += LANES)
      store(hidden(row) + i, spot ? from_bf16(token + i) + from_bf16(spot + i) : from_bf16(token + i));
  }

  void normalise(Walker& walker) {
    walker.each(b.rows, 4, [&](int row) {
      scales[row] = norm_quantise(hidden(row), m.hidden, m.eps, bytes + int64_t(row) * m.hidden);
    });
  }

  void narrow(Walker& walker, const float* from, int size) {
    walker.each(b.rows, 4, [&, from, size](int row) {
      scales[row] = quantise(from + int64_t(row) * size, size, bytes + int64_t(row) * size);
    });
  }

  void squeeze(int row) {
    float* x = mixed + int64_t(row) * m.inner;
    spread(x, m.inner, m.spread);
    scales[row] = quantise(x, m.inner, bytes + int64_t(row) * m.inner);
  }

  // `part`: what adapters add to this product.
  template <class Emit>
  void multiply(Walker& walker, const maas::Linear& w, int layer, LowRank Change::* part, int size, Emit emit) {
    const Rows rows{b.rows, size, bytes, scales};
    if (b.parts) return multiply_changed(walker, w, layer, part, rows, emit);
    walker.each(w.outputs / PANEL, 1, [&](int panel) {
      product(w, panel, rows, [&](int row, F low, F high) { emit(row, panel * PANEL, low, high); });
    });
  }

  // Apart, so that passes without adapters stay as tight as they are.
  template <class Emit>
  [[gnu::noinline]] void multiply_changed(Walker& walker, const maas::Linear& w, int layer, LowRank Change::* part,
                                          const Rows& rows, Emit emit) {
    walker.each(b.parts, 1, [&](int i) { compress(b.adapted[i], layer, part, rows.size); });
    walker.each(w.outputs / PANEL, 1, [&](int panel) {
      product(w, panel, rows, [&](int row, F low, F high) {
        if (changes[row]) widen(changes[row][layer].*part, panel, row, low, high);
        emit(row, panel * PANEL, low, high);
      });
    });
  }

  void adopt() {
    changes.assign(b.rows, nullptr);
    for (int i = 0; i < b.parts; i++)
      std::fill_n(changes.begin() + b.adapted[i].first, b.adapted[i].count, b.adapted[i].change);
  }

  void compress(const Adapted& part, int layer, LowRank Change::* of, int size) {
    const LowRank& p = part.change[layer].*of;
    if (!p.rank) return;
    const Rows rows{part.count, size, bytes + int64_t(part.first) * size, scales + part.first};
    for (int panel = 0; panel < p.down.outputs / PANEL; panel++)
      product(p.down, panel, rows, [&](int row, F low, F high) {
        float* to = thin + int64_t(part.first + row) * b.ranks + panel * PANEL;
        store(to, low), store(to + LANES, high);
      });
  }

  void widen(const LowRank& p, int panel, int row, F& low, F& high) {
    const float* x = thin + int64_t(row) * b.ranks;
    const float* up = p.up + int64_t(panel) * p.rank * PANEL;
    for (int rank = 0; rank < p.rank; rank++, up += PANEL) {
      low = fma(all(x[rank]), load(up), low);
      high = fma(all(x[rank]), load(up + LANES), high);
    }
  }

  void put(int stride, int row, int at, F low, F high) {
    float* p = mixed + int64_t(row) * stride + at;
    store(p, low), store(p + LANES, high);
  }
  void add(int row, int at, F low, F high) {
    float* p = hidden(row) + at;
    store(p, load(p) + low), store(p + LANES, load(p + LANES) + high);
  }
  // A gated panel holds 16 gates and their 16 ups.
  void activate(int row, int at, F low, F high) {
    if (m.activation == maas::SILU_GATED)
      store(mixed + int64_t(row) * m.inner + at / 2, silu(low) * high);
    else
      put(m.inner, row, at, gelu(low), gelu(high));
  }

  // Turns queries and keys to their places (Su et al. 2021) and writes keys and values to the row's slot.
  void place(int row, int layer) {
    float* query = mixed + int64_t(row) * width;
    float* key = query + wide;
    for (int head = 0; head < m.kv_heads; head++) fetch_slot(cell(row, layer, head), m.head_dim, b.positions[row] % LANES);
    for (int head = 0; head < m.heads; head++) turn(query + head * m.head_dim, m.layer[layer].q_norm, row);
    for (int head = 0; head < m.kv_heads; head++) turn(key + head * m.head_dim, m.layer[layer].k_norm, row);
    keep(key, key + m.kv_heads * m.head_dim, row, layer);
  }

  void turn(float* head, const float* weight, int row) {
    if (weight) norm(head, m.head_dim, m.eps, weight);
    if (!m.cosine) return;
    const int half = m.head_dim / 2;
    const float* cosine = m.cosine + int64_t(b.positions[row]) * half;
    const float* sine = m.sine + int64_t(b.positions[row]) * half;
    for (int i = 0; i < half; i += LANES) {
      const F first = load(head + i), second = load(head + half + i);
      store(head + i, first * load(cosine + i) - second * load(sine + i));
      store(head + half + i, second * load(cosine + i) + first * load(sine + i));
    }
  }

  int8_t* cell(int row, int layer, int head) const {
    const int64_t block = table(row)[b.positions[row] / LANES];
    return b.cells[layer] + (block * m.kv_heads + head) * cell_size(m.head_dim);
  }

  void keep(const float* key, const float* value, int row, int layer) {
    const int token = b.positions[row] % LANES, size = m.head_dim;
    for (int head = 0; head < m.kv_heads; head++) {
      int8_t* to = cell(row, layer, head);
      float* scales = scales_at(to, size);
      alignas(64) uint8_t narrow[WIDEST];
      scales[token] = quantise(key + head * size, size, narrow);
      for (int i = 0; i < size; i += 4) std::memcpy(to + key_at(token, i), narrow + i, 4);
      scales[LANES + token] = quantise(value + head * size, size, narrow);
      for (int i = 0; i < size; i++) to[value_at(size, token, i)] = int8_t(narrow[i] - 128);
    }
  }

  const int32_t* table(int row) const { return b.tables + int64_t(b.sequences[row]) * b.table_width; }

  void attend(int item, int layer, maas::Room<float>& scratch) {
    const Group group = groups[item / m.kv_heads];
    const int kv = item % m.kv_heads, each = m.heads / m.kv_heads;
    const int first = b.positions[group.first], last = first + group.count - 1;
    Glance g;
    g.from = m.window ? std::max(0, first - m.window + 1) / LANES : 0;
    g.to = last / LANES + 1;
    g.table = table(group.first);
    g.stride = m.kv_heads * cell_size(m.head_dim);
    g.cells = b.cells[layer] + kv * cell_size(m.head_dim);
    const int next = std::min(item + 1, int(groups.size()) * m.kv_heads - 1);
    g.next_table = table(groups[next / m.kv_heads].first);
    g.next_cells = b.cells[layer] + next % m.kv_heads * cell_size(m.head_dim);
    g.head_dim = m.head_dim, g.window = m.window;
    const int queries = group.count * each, most = std::min(queries, QUERIES);
    const int64_t weights = int64_t(most) * (g.to - g.from) * LANES;
    g.scores = scratch.at_least(weights + weights / 2);
    g.steps = reinterpret_cast<uint8_t*>(g.scores + weights);
    for (int start = 0; start < queries; start += most) {
      const int count = std::min(most, queries - start);
      for (int n = 0; n < count; n++) {
        const int row = group.first + (start + n) / each, head = kv * each + (start + n) % each;
        g.query[n] = mixed + int64_t(row) * width + head * m.head_dim;
        g.out[n] = attended + (int64_t(row) * m.heads + head) * m.head_dim;
        g.place[n] = b.positions[row];
      }
      LOOKS.of[count](g);
    }
  }

  const Model& m;
  const Batch& b;
  const int width, wide;  // of q, k and v together; of all query heads
  int share;
  uint8_t* bytes;
  float *scales, *mixed, *attended;  // mixed: q, k and v, or the inner layer
  float* thin;                       // [rows, b.ranks]: what an adapter makes of a product's inputs
  std::vector<const Change*> changes;  // of each row, null without an adapter
  std::vector<maas::Room<float>>& scores;
  std::vector<Group> groups;
};

}  // namespace

void forward(maas::Pool& pool, maas::Workspace& room, const Model& model, const Batch& batch) {
  Pass pass(model, batch, room, pool.threads());
  pool.run([&](Walker& walker) { pass.walk(walker); });
}

void logits(maas::Pool& pool, maas::Workspace& room, const Model& model, const float* hidden, const int32_t* rows,
            int count, int vocab, float* out, int32_t* best, float* peak, float* log_sum) {
  uint8_t* bytes = room.bytes.at_least(int64_t(count) * model.hidden);
  float* scales = room.scales.at_least(count);
  const Rows x{count, model.hidden, bytes, scales};
  const int64_t stride = model.head.outputs;
  pool.run([&](Walker& walker) {
    walker.each(count, 4, [&](int row) {
      const float* state = hidden + int64_t(rows[row]) * model.hidden;
      scales[row] = norm_quantise(state, model.hidden, model.eps, bytes + int64_t(row) * model.hidden);
    });
    walker.each(model.head.outputs / PANEL, 8, [&](int panel) {
      product(model.head, panel, x, [&](int row, F low, F high) {
        float* p = out + row * stride + panel * PANEL;
        store_away(p, low), store_away(p + LANES, high);
      });
    });
    walker.each(count, 1, [&](int row) { log_sum[row] = survey(out + row * stride, vocab, best + row, peak + row); });
  });
}

}  // namespace MAAS_ISA
