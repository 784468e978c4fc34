// Threads that walk through a pass together: shared loops with a barrier behind each. Knows no mathematics.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace maas {

// Spins for a while, then sleeps: threads of the server share these cores.
class Barrier {
 public:
  explicit Barrier(int parties) : parties_(parties), waiting_(parties) {}

  // The last to come runs `then` before anybody goes on.
  template <class Then>
  void arrive(Then then) {
    uint32_t epoch = epoch_.load(std::memory_order_relaxed);
    if (waiting_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      then();
      waiting_.store(parties_, std::memory_order_relaxed);
      epoch_.store(epoch + 1, std::memory_order_release);
      epoch_.notify_all();
      return;
    }
    for (int i = 0; i < SPINS; i++) {
      if (epoch_.load(std::memory_order_acquire) != epoch) return;
      __builtin_ia32_pause();
    }
    epoch_.wait(epoch, std::memory_order_acquire);
  }

 private:
  static constexpr int SPINS = 2000;
  const int parties_;
  std::atomic<int> waiting_;
  alignas(64) std::atomic<uint32_t> epoch_{0};
};

class Pool;

// One thread's part in a pass.
class Walker {
 public:
  Walker(Pool& pool, int index) : pool_(pool), index(index) {}

  // f(i) for each i below `count`, each by one of the threads, `grain` at a time; returns when all are done.
  template <class Body>
  void each(int count, int grain, Body f);

 private:
  Pool& pool_;

 public:
  const int index;
};

class Pool {
 public:
  // `cpus`: where each thread belongs, -1 = anywhere. The first is the one that calls `run`, always the same.
  Pool(int threads, const int* cpus);
  ~Pool();

  // `pass` on every thread; returns when all have ended.
  void run(const std::function<void(Walker&)>& pass);
  int threads() const { return threads_; }

 private:
  friend class Walker;
  void serve(int index, int cpu);

  const int threads_;
  int first_cpu_;
  Barrier barrier_;
  alignas(64) std::atomic<int> next_{0};
  alignas(64) std::atomic<uint32_t> job_{0};
  const std::function<void(Walker&)>* pass_ = nullptr;
  bool closing_ = false;
  std::vector<std::thread> others_;
};

template <class Body>
void Walker::each(int count, int grain, Body f) {
  if (pool_.threads_ == 1) {
    for (int i = 0; i < count; i++) f(i);
    return;
  }
  for (int first; (first = pool_.next_.fetch_add(grain, std::memory_order_relaxed)) < count;)
    for (int i = first; i < count && i < first + grain; i++) f(i);
  pool_.barrier_.arrive([this] { pool_.next_.store(0, std::memory_order_relaxed); });
}

}  // namespace maas
