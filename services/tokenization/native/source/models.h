// The two models, for words of characters whose kind is known: byte-level BPE behind GPT-2's expression, WordPiece
// behind BERT's.
#pragma once
#include <algorithm>

#include "table.h"

namespace maas {

constexpr size_t LONGEST = 128;  // bytes of a word; the library takes pieces with longer ones

enum Kind : Byte { UNKNOWN, LETTER, DIGIT, MARK, BLANK };
struct Character {
  Kind kind;
  int size;  // in bytes
};

// A piece is white space (BLANK) and then what is known and no white space, between two borders that nothing
// reaches across.
class Model {
 public:
  // kinds: of each code point below their count.
  explicit Model(std::vector<Byte> kinds) : kinds_(std::move(kinds)) {}
  virtual ~Model() = default;

  // Of valid UTF-8.
  Character character(const Byte* at) const {
    if (*at < 0x80) return {Kind(kinds_[*at]), 1};
    const int size = *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : 4;
    size_t code = *at & (0x7f >> size);
    for (int i = 1; i < size; i++) code = code << 6 | (at[i] & 0x3f);
    return {code < kinds_.size() ? Kind(kinds_[code]) : UNKNOWN, size};
  }
  // Appends the ids of a piece; null, with anything behind `out`, if the library must take it.
  virtual uint32_t* piece(const Byte* begin, const Byte* solid, const Byte* end, uint32_t* out) const = 0;

 private:
  std::vector<Byte> kinds_;
};

class ByteLevel : public Model {
 public:
  // bytes: ids of the 256 bytes. digits: 0 = of GPT-2's expression, 1 = runs alone, 2 = each alone.
  ByteLevel(std::vector<Byte> kinds, const uint32_t* bytes, size_t merges, size_t tokens, int digits)
      : Model(std::move(kinds)), digits_(digits), ranks_(merges), whole_(tokens) {
    std::copy(bytes, bytes + 256, bytes_);
  }

  // In the order of their ranks.
  void merge(uint32_t left, uint32_t right, uint32_t made) {
    ranks_.put(left, right, uint32_t(made_.size()));
    made_.push_back(made);
  }

  // Once all merges are known: a token that its own bytes give is found at once.
  void token(const Byte* text, size_t size, uint32_t id) {
    uint32_t ids[LONGEST];
    if (size && size <= LONGEST && merged(text, size, ids) == 1 && ids[0] == id) whole_.put(text, size, id);
  }

  uint32_t* piece(const Byte* begin, const Byte* solid, const Byte* end, uint32_t* out) const override {
    const Byte* at = solid;
    if (solid == end || (digits_ && character(solid).kind == DIGIT)) {  // white space at the end of what the expression sees
      if (begin < solid) out = word(begin, solid, out);
    } else if (begin < solid) {  // its last character stands alone, and before others if it is a space
      if (solid - begin > 1) out = word(begin, solid - 1, out);
      at = solid - 1;
    }
    while (out && at < end) {
      const Byte* stop = after(at, end);
      out = word(at, stop, out);
      at = stop;
    }
    return out;
  }

 private:
  const Byte* after(const Byte* at, const Byte* end) const {
    const Byte* first = at + (*at == ' ');
    if (*at == '\'')
      if (const int size = contraction(at + 1, end)) return at + 1 + size;
    const auto [kind, size] = character(first);
    const Byte* stop = first + size;
    if (kind == DIGIT && digits_ == 2) return stop;
    while (stop < end) {
      const Character next = character(stop);
      if (next.kind != kind) break;
      stop += next.size;
    }
    return stop;
  }

  static int contraction(const Byte* at, const Byte* end) {
    if (at == end) return 0;
    if (*at == 's' || *at == 't' || *at == 'm' || *at == 'd') return 1;
    if (end - at < 2) return 0;
    return (at[1] == 'e' && (*at == 'r' || *at == 'v')) || (at[0] == 'l' && at[1] == 'l') ? 2 : 0;
  }

  uint32_t* word(const Byte* begin, const Byte* end, uint32_t* out) const {
    const size_t size = end - begin;
    if (!out || size > LONGEST) return nullptr;
    const uint32_t id = whole_.get(begin, size, hash_of(begin, size));
    if (id == NONE) return out + merged(begin, size, out);
    *out = id;
    return out + 1;
  }

  // Sennrich et al. 2016: the pair of least rank first, of equals the left one. `ids` has room for `size`.
  size_t merged(const Byte* text, size_t size, uint32_t* ids) const {
    uint32_t ranks[LONGEST];  // of each id and the next
    for (size_t i = 0; i < size; i++) ids[i] = bytes_[text[i]];
    for (size_t i = 0; i + 1 < size; i++) ranks[i] = ranks_.get(ids[i], ids[i + 1]);
    while (size > 1) {
      const size_t at = std::min_element(ranks, ranks + size - 1) - ranks;
      if (ranks[at] == NONE) break;
      ids[at] = made_[ranks[at]];
      std::copy(ids + at + 2, ids + size, ids + at + 1);
      std::copy(ranks + at + 1, ranks + size - 1, ranks + at);
      size--;
      if (at) ranks[at - 1] = ranks_.get(ids[at - 1], ids[at]);
      if (at + 1 < size) ranks[at] = ranks_.get(ids[at], ids[at + 1]);
    }
    return size;
  }

  int digits_;
  uint32_t bytes_[256];
  Pairs ranks_;
  std::vector<uint32_t> made_;  // by rank
  Strings whole_;
};

class WordPiece : public Model {
 public:
  WordPiece(std::vector<Byte> kinds, size_t tokens, uint32_t unknown, size_t most, bool lower)
      : Model(std::move(kinds)), unknown_(unknown), most_(most), lower_(lower), first_(tokens), later_(tokens) {}

  void token(const Byte* text, size_t size, uint32_t id, bool later) { (later ? later_ : first_).put(text, size, id); }

  uint32_t* piece(const Byte*, const Byte* solid, const Byte* end, uint32_t* out) const override {
    for (const Byte* at = solid; out && at < end;) {
      const auto [kind, size] = character(at);
      const Byte* stop = at + size;
      while (kind != MARK && stop < end && character(stop).kind != MARK) stop += character(stop).size;
      out = word(at, stop, out);
      at = stop;
    }
    return out;
  }

 private:
  // The longest token that the rest begins with, again and again; unknown as a whole when there is none.
  uint32_t* word(const Byte* begin, const Byte* end, uint32_t* out) const {
    const size_t size = end - begin;
    if (size > LONGEST && size <= most_) return nullptr;
    Byte text[LONGEST];
    uint32_t* ids = out;
    for (size_t i = 0; i < size && size <= most_; i++) text[i] = lower_ && begin[i] >= 'A' && begin[i] <= 'Z' ? begin[i] | 0x20 : begin[i];
    for (size_t at = 0; at < size;) {
      const size_t taken = size <= most_ ? longest(text + at, size - at, at ? later_ : first_, ids) : 0;
      if (!taken) return *out = unknown_, out + 1;
      at += taken, ids++;
    }
    return ids;
  }

  static size_t longest(const Byte* text, size_t size, const Strings& among, uint32_t* id) {
    uint64_t hashes[LONGEST + 1];
    hashes[0] = EMPTY;
    for (size_t i = 0; i < size; i++) hashes[i + 1] = step(hashes[i], text[i]);
    while (size && (*id = among.get(text, size, hashes[size])) == NONE) size--;
    return size;
  }

  uint32_t unknown_;
  size_t most_;
  bool lower_;
  Strings first_, later_;  // tokens that begin a word, tokens that go on
};

}  // namespace maas
