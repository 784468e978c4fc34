// Texts → ids where they are ASCII, and places of what is not; the C face. Knows no library.
#include <cstdlib>
#include <memory>

#include "models.h"

namespace {
using namespace maas;

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
    int64_t foreign = 0;
    for (const Byte* at = begin; at < end;) {
      const Byte* solid = at;
      while (solid < end && is_blank(*solid)) solid++;
      const Byte* stop = solid;
      bool ours = true;
      // Sure border: printable ASCII | white space.
      for (; stop < end && !(stop > solid && is_blank(*stop) && is_printable(stop[-1])); stop++)
        ours &= is_printable(*stop);
      if (uint32_t* next = ours ? model.piece(at, solid, stop, out) : nullptr) {
        out = next;
      } else {
        foreign += stop - at;
        leave(at, stop, start);
      }
      at = stop;
    }
    if (2 * foreign > end - begin) out = before, hole = start, leave(begin, end, start);
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
// `letters` holds the tokens one behind the other, `sizes` their bytes, `ids` their ids; null without memory.
void* maas_byte_level(const Byte* letters, const uint32_t* sizes, const uint32_t* ids, int64_t tokens,
                      const uint32_t* merges, int64_t merge_count, const uint32_t* bytes, int digits) try {
  auto model = std::make_unique<ByteLevel>(bytes, merge_count, tokens, digits);
  for (int64_t i = 0; i < merge_count; i++) model->merge(merges[3 * i], merges[3 * i + 1], merges[3 * i + 2]);
  for (int64_t i = 0; i < tokens; letters += sizes[i++]) model->token(letters, sizes[i], ids[i]);
  return static_cast<Model*>(model.release());
} catch (const std::bad_alloc&) {
  return nullptr;
}

// later: 1 for tokens that go on with a word, without their prefix.
void* maas_word_piece(const Byte* letters, const uint32_t* sizes, const uint32_t* ids, int64_t tokens,
                      const Byte* later, uint32_t unknown, int64_t most, int lower) try {
  auto model = std::make_unique<WordPiece>(tokens, unknown, most, lower);
  for (int64_t i = 0; i < tokens; letters += sizes[i++]) model->token(letters, sizes[i], ids[i], later[i]);
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
