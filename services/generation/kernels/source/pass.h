#pragma once
#include "model.h"
#include "pool.h"

namespace MAAS_ISA {

// Hidden states of the rows; their keys and values are in their blocks afterwards.
void forward(maas::Pool& pool, const maas::Model& model, const maas::Batch& batch);

// Hidden states [rows, hidden] → logits [rows, head.outputs].
void logits(maas::Pool& pool, const maas::Model& model, const float* hidden, int rows, float* out);

}  // namespace MAAS_ISA
