#include "pool.h"

#include <pthread.h>
#include <sched.h>

#include <utility>

namespace maas {

namespace {
constexpr int SPINS_FOR_A_JOB = 4000;

void pin(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}
}  // namespace

Pool::Pool(int threads, const int* cpus) : threads_(threads), first_cpu_(cpus[0]), barrier_(threads) {
  for (int i = 1; i < threads; i++) others_.emplace_back(&Pool::serve, this, i, cpus[i]);
}

Pool::~Pool() {
  closing_ = true;
  job_.fetch_add(1, std::memory_order_release);
  job_.notify_all();
  for (auto& thread : others_) thread.join();
}

void Pool::run(const std::function<void(Walker&)>& pass) {
  pin(std::exchange(first_cpu_, -1));
  pass_ = &pass;
  job_.fetch_add(1, std::memory_order_release);
  job_.notify_all();
  Walker walker(*this, 0);
  pass(walker);
  barrier_.arrive([] {});
}

void Pool::serve(int index, int cpu) {
  pin(cpu);
  for (uint32_t seen = 0;; seen++) {
    for (int i = 0; i < SPINS_FOR_A_JOB && job_.load(std::memory_order_acquire) == seen; i++) __builtin_ia32_pause();
    job_.wait(seen, std::memory_order_acquire);
    if (closing_) return;
    Walker walker(*this, index);
    (*pass_)(walker);
    barrier_.arrive([] {});
  }
}

}  // namespace maas
