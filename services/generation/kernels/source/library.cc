// The C face of the kernels, and the choice among the instruction sets they were compiled for.
#include "pool.h"
#define MAAS_ISA portable
#include "pass.h"
#undef MAAS_ISA

#define SETS(X) X(avx512) X(avx2) X(portable)
#define DECLARE(set)                                                              \
  namespace set {                                                                 \
  void forward(maas::Pool&, const maas::Model&, const maas::Batch&);              \
  void logits(maas::Pool&, const maas::Model&, const float*, int, float*);        \
  }
SETS(DECLARE)

namespace {
struct Set {
  const char* name;
  decltype(&portable::forward) forward;
  decltype(&portable::logits) logits;
};
#define ENTRY(set) {#set, set::forward, set::logits},
constexpr Set ALL[] = {SETS(ENTRY)};
}  // namespace

#pragma GCC visibility push(default)
extern "C" {
// Index of the best set of this processor.
int maas_best() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return 0;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 2;
}
const char* maas_name(int set) { return ALL[set].name; }
void* maas_pool(int threads, const int* cpus) { return new maas::Pool(threads, cpus); }
void maas_pool_end(void* pool) { delete static_cast<maas::Pool*>(pool); }
void maas_forward(int set, void* pool, const maas::Model* model, const maas::Batch* batch) {
  ALL[set].forward(*static_cast<maas::Pool*>(pool), *model, *batch);
}
void maas_logits(int set, void* pool, const maas::Model* model, const float* hidden, int rows, float* out) {
  ALL[set].logits(*static_cast<maas::Pool*>(pool), *model, hidden, rows, out);
}
}
