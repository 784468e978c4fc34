// Byte strings → numbers, open addressing. Written once, then read by any number of threads.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace maas {

using Byte = uint8_t;
constexpr uint32_t NONE = UINT32_MAX;

// FNV-1a by single bytes: the hash of a string is a step from that of its beginning.
constexpr uint64_t EMPTY = 0xcbf29ce484222325;
inline uint64_t step(uint64_t hash, Byte byte) { return (hash ^ byte) * 0x100000001b3; }
inline uint64_t spread(uint64_t hash) { return (hash ^ hash >> 32) * 0x9e3779b97f4a7c15; }
inline uint64_t hash_of(const Byte* text, size_t size) {
  uint64_t hash = EMPTY;
  for (size_t i = 0; i < size; i++) hash = step(hash, text[i]);
  return hash;
}

inline int bits_for(size_t entries) {
  int bits = 4;
  while (entries * 2 > size_t{1} << bits) bits++;
  return bits;
}

class Strings {
 public:
  explicit Strings(size_t entries) : shift_(64 - bits_for(entries)), slots_(size_t{1} << (64 - shift_)) {}

  void put(const Byte* text, uint32_t size, uint32_t value) {
    const uint64_t hash = hash_of(text, size);
    Slot* slot = find(text, size, hash);
    if (slot->value == NONE) {
      *slot = {uint32_t(hash), uint32_t(letters_.size()), size, value};
      letters_.append(reinterpret_cast<const char*>(text), size);
    }
    slot->value = value;
  }

  // `hash` = hash_of(text, size); NONE if it is not there.
  uint32_t get(const Byte* text, size_t size, uint64_t hash) const {
    return const_cast<Strings*>(this)->find(text, size, hash)->value;
  }

 private:
  struct Slot {
    uint32_t hash = 0, begin = 0, size = 0, value = NONE;
  };

  Slot* find(const Byte* text, size_t size, uint64_t hash) {
    for (size_t at = spread(hash) >> shift_;; at = (at + 1) & (slots_.size() - 1)) {
      Slot& slot = slots_[at];
      if (slot.value == NONE) return &slot;
      if (slot.hash == uint32_t(hash) && slot.size == size && !std::memcmp(&letters_[slot.begin], text, size))
        return &slot;
    }
  }

  int shift_;
  std::vector<Slot> slots_;
  std::string letters_;
};

// Two numbers → one.
class Pairs {
 public:
  explicit Pairs(size_t entries) : shift_(64 - bits_for(entries)), slots_(size_t{1} << (64 - shift_)) {}

  void put(uint32_t left, uint32_t right, uint32_t value) { *find(left, right) = {left, right, value}; }
  uint32_t get(uint32_t left, uint32_t right) const {
    return const_cast<Pairs*>(this)->find(left, right)->value;
  }

 private:
  struct Slot {
    uint32_t left = 0, right = 0, value = NONE;
  };

  Slot* find(uint32_t left, uint32_t right) {
    for (size_t at = spread(uint64_t(left) << 32 | right) >> shift_;; at = (at + 1) & (slots_.size() - 1)) {
      Slot& slot = slots_[at];
      if (slot.value == NONE || (slot.left == left && slot.right == right)) return &slot;
    }
  }

  int shift_;
  std::vector<Slot> slots_;
};

}  // namespace maas
