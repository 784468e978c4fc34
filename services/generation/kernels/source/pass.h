// A pass, its logits and what is told of them, for one instruction set.
#pragma once
#include <vector>

#include "model.h"
#include "pool.h"

namespace maas {

// Memory that passes leave to the next: fresh pages cost more than most loops here.
struct Workspace {
  std::vector<uint8_t> bytes;
  std::vector<float> scales, mixed, attended;
  std::vector<std::vector<float>> scores;  // a thread each
};

template <class T>
T* at_least(std::vector<T>& room, int64_t count) {
  if (static_cast<int64_t>(room.size()) < count) room.resize(count);
  return room.data();
}

}  // namespace maas

namespace MAAS_ISA {

// Hidden states of the rows; their keys and values are in their blocks afterwards.
void forward(maas::Pool& pool, maas::Workspace& room, const maas::Model& model, const maas::Batch& batch);

// Hidden states [rows, hidden] → logits [rows, head.outputs]; of the first `vocab` of each row the place of the
// largest (the first of several) and ln Σ e^logit.
void logits(maas::Pool& pool, maas::Workspace& room, const maas::Model& model, const float* hidden, int rows,
            int vocab, float* out, int32_t* best, float* log_sum);

}  // namespace MAAS_ISA
