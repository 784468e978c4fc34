// A pass, its logits and what is told of them, for one instruction set.
#pragma once
#include <memory>
#include <new>
#include <vector>

#include "model.h"
#include "pool.h"

namespace maas {

// Memory that a pass leaves to the next, since fresh pages cost more than most loops here; on whole cache lines.
template <class T>
class Room {
 public:
  T* at_least(int64_t count) {
    if (count > count_) memory_.reset(new (std::align_val_t(64)) T[count_ = count]);
    return memory_.get();
  }

 private:
  struct Free {
    void operator()(T* memory) const { operator delete[](memory, std::align_val_t(64)); }
  };
  std::unique_ptr<T[], Free> memory_;
  int64_t count_ = 0;
};

struct Workspace {
  Room<uint8_t> bytes;
  Room<float> scales, mixed, attended, thin;
  std::vector<Room<float>> scores;  // a thread each
};

}  // namespace maas

namespace MAAS_ISA {

// Hidden states of the rows; their keys and values are in their blocks afterwards.
void forward(maas::Pool& pool, maas::Workspace& room, const maas::Model& model, const maas::Batch& batch);

// Of hidden states [any, hidden] the `count` rows `rows` → logits [count, head.outputs], on whole cache lines; of the
// first `vocab` of each the place of the largest (the first of several), that logit, and ln Σ e^logit.
void logits(maas::Pool& pool, maas::Workspace& room, const maas::Model& model, const float* hidden,
            const int32_t* rows, int count, int vocab, float* out, int32_t* best, float* peak, float* log_sum);

}  // namespace MAAS_ISA
