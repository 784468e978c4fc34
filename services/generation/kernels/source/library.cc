// The C face of the kernels, and the choice among the instruction sets they were compiled for.
#include "pool.h"
#define MAAS_ISA portable
#include "pass.h"
#undef MAAS_ISA

#define SETS(X) X(avx512) X(avx2) X(portable)
#define DECLARE(set)                                \
  namespace set {                                   \
  decltype(portable::forward) forward;              \
  decltype(portable::logits) logits;                \
  }
DECLARE(avx512)
DECLARE(avx2)

namespace {
struct Set {
  decltype(&portable::forward) forward;
  decltype(&portable::logits) logits;
};
#define ENTRY(set) {set::forward, set::logits},
constexpr Set ALL[] = {SETS(ENTRY)};

struct Crew {
  maas::Pool pool;
  maas::Workspace room;
};
}  // namespace

#pragma GCC visibility push(default)
extern "C" {
// Place of the best set of this processor in SETS.
int maas_best() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return 0;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 1 : 2;
}
void* maas_crew(int threads, const int* cpus) { return new Crew{{threads, cpus}, {}}; }
void maas_crew_end(void* crew) { delete static_cast<Crew*>(crew); }
void maas_forward(int set, void* crew, const maas::Model* model, const maas::Batch* batch) {
  auto& [pool, room] = *static_cast<Crew*>(crew);
  ALL[set].forward(pool, room, *model, *batch);
}
void maas_logits(int set, void* crew, const maas::Model* model, const float* hidden, const int32_t* rows, int count,
                 int vocab, float* out, int32_t* best, float* peak, float* log_sum) {
  auto& [pool, room] = *static_cast<Crew*>(crew);
  ALL[set].logits(pool, room, *model, hidden, rows, count, vocab, out, best, peak, log_sum);
}
}
