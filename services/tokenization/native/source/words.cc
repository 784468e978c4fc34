// Texts → ids where their characters are known, and places of what is not; the C face.
#include <cstdlib>
#include <memory>

#include "models.h"

namespace {
using namespace maas;

constexpr int HOLE_COST = 32;  // bytes that are cheaper left to the library with their neighbours than filled in

// kinds: of each code point below kind_count. letters: the tokens one behind the other; the bytes and the id of each.
struct Vocabulary {
  const Byte* kinds;
  int64_t kind_count;
  const Byte* letters;
  const uint32_t *sizes, *ids;
  int64_t tokens;

  std::vector<Byte> known() const { return {kinds, kinds + kind_count}; }
  void each(auto take) const {
    const Byte* at = letters;
    for (int64_t i = 0; i < tokens; at += sizes[i++]) take(at, sizes[i], ids[i]);
  }
};

// Bytes begin … end of the blob belong before ids[at]; the library knows their ids.
struct Hole {
  int64_t at, begin, end;
};

struct Answer {
  uint32_t* ids;
  Hole* holes;
  int64_t hole_count;
};

struct Writer {
  const Model& model;
  const Byte* blob;
  uint32_t *ids, *out;
  Hole *first, *hole;

  // One text. What is mostly not for us is left to the library whole.
  void text(const Byte* begin, const Byte* end) {
    uint32_t* const before = out;
    Hole* const start = hole;
    int64_t cost = 0;
    for (const Byte* at = begin; at < end && cost <= end - begin;) {
      const Byte* solid = at;
      while (solid < end && model.character(solid).kind == BLANK) solid++;
      const Byte* stop = solid;
      bool ours = true;
      for (bool sure = false; stop < end;) {
        const auto [kind, size] = model.character(stop);
        if (sure && kind == BLANK) break;  // known and no white space | white space
        sure = kind != UNKNOWN && kind != BLANK;
        ours &= sure;
        stop += size;
      }
      if (uint32_t* next = ours ? model.piece(at, solid, stop, out) : nullptr) {
        out = next;
      } else {
        cost += stop - at + HOLE_COST;
        leave(at, stop, start);
      }
      at = stop;
    }
    if (cost > end - begin) out = before, hole = start, leave(begin, end, start);
  }

  void leave(const Byte* begin, const Byte* end, Hole* start) {
    if (hole > start && hole[-1].end == begin - blob && hole[-1].at == out - ids)
      hole[-1].end = end - blob;
    else
      *hole++ = {out - ids, begin - blob, end - blob};
  }
};
}  // namespace

#pragma GCC visibility push(default)
extern "C" {
// Null without memory.
void* maas_byte_level(const Vocabulary* of, const uint32_t* merges, int64_t merge_count, const uint32_t* bytes,
                      int digits) try {
  auto model = std::make_unique<ByteLevel>(of->known(), bytes, merge_count, of->tokens, digits);
  for (int64_t i = 0; i < merge_count; i++) model->merge(merges[3 * i], merges[3 * i + 1], merges[3 * i + 2]);
  of->each([&](auto... token) { model->token(token...); });
  return static_cast<Model*>(model.release());
} catch (const std::bad_alloc&) {
  return nullptr;
}

// later: 1 for tokens that go on with a word, without their prefix.
void* maas_word_piece(const Vocabulary* of, const Byte* later, uint32_t unknown, int64_t most, int lower) try {
  auto model = std::make_unique<WordPiece>(of->known(), of->tokens, unknown, most, lower);
  of->each([&](auto... token) { model->token(token..., *later++); });
  return static_cast<Model*>(model.release());
} catch (const std::bad_alloc&) {
  return nullptr;
}

void maas_model_end(void* model) { delete static_cast<Model*>(model); }

// ends: bytes of the blob up to the end of each text; told: ids up to there. 0, or 1 without memory.
int maas_encode(const void* model, const Byte* blob, const int64_t* ends, int64_t texts, int64_t* told, Answer* answer) {
  const int64_t size = texts ? ends[texts - 1] : 0;
  auto* ids = static_cast<uint32_t*>(std::malloc((size + 1) * sizeof(uint32_t)));  // an id takes a byte or more
  auto* holes = static_cast<Hole*>(std::malloc((size + 1) * sizeof(Hole)));
  *answer = {ids, holes, 0};
  if (!ids || !holes) return 1;
  Writer writer{*static_cast<const Model*>(model), blob, ids, ids, holes, holes};
  for (int64_t i = 0, begin = 0; i < texts; begin = ends[i++]) {
    writer.text(blob + begin, blob + ends[i]);
    told[i] = writer.out - ids;
  }
  answer->hole_count = writer.hole - holes;
  return 0;
}

void maas_answer_end(Answer* answer) { std::free(answer->ids), std::free(answer->holes); }
}
