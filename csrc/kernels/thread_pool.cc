#include "thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <string>

#include "types.h"

namespace kvtier::kernels {
namespace {

constexpr int kSpinsBeforeSleep = 4000;  // some tens of microseconds of `pause`

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

int AffinityThreads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::clamp(CPU_COUNT(&set), 1, ThreadPool::kThreadsMax);
}

std::atomic<int> wanted_threads{0};  // 0: the process's affinity
std::atomic<ThreadPool*> pool{nullptr};
std::mutex* create_mutex = new std::mutex;  // replaced in a forked child

// The child has none of the parent's workers, and may have inherited locked
// mutexes.
void ForgetPoolInChild() {
  pool.store(nullptr);
  create_mutex = new std::mutex;
}

}  // namespace

ThreadPool& ThreadPool::Get() {
  if (ThreadPool* existing = pool.load(std::memory_order_acquire)) return *existing;
  const std::lock_guard lock(*create_mutex);
  if (ThreadPool* existing = pool.load()) return *existing;
  static const int registered = pthread_atfork(nullptr, nullptr, ForgetPoolInChild);
  static_cast<void>(registered);
  auto* created = new ThreadPool(Threads());
  pool.store(created, std::memory_order_release);
  return *created;
}

int ThreadPool::Threads() {
  const int wanted = wanted_threads.load();
  return wanted > 0 ? wanted : AffinityThreads();
}

void ThreadPool::SetThreads(int threads) {
  Require(
      threads >= 1 && threads <= kThreadsMax,
      "threads must be 1 to " + std::to_string(kThreadsMax) + ", not " + std::to_string(threads));
  ThreadPool& current = Get();
  const std::lock_guard lock(current.mutex_);
  wanted_threads.store(threads);
  current.StopWorkers();
  for (int worker = 1; worker < threads; ++worker) {
    current.workers_.emplace_back(&ThreadPool::Work, &current);
  }
}

ThreadPool::ThreadPool(int threads) {
  for (int worker = 1; worker < threads; ++worker) {
    workers_.emplace_back(&ThreadPool::Work, this);
  }
}

void ThreadPool::StopWorkers() {
  stopping_.store(true);
  calls_.fetch_add(1);
  calls_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
  stopping_.store(false);
}

void ThreadPool::RunErased(int tasks, const Job& job) {
  if (workers_.empty() || tasks <= 1) {
    for (int task = 0; task < tasks; ++task) job.run(job.context, task);
    return;
  }
  job_ = job;
  done_.store(0, std::memory_order_relaxed);
  ticket_.store(static_cast<std::uint64_t>(tasks) << 32, std::memory_order_release);
  calls_.fetch_add(1, std::memory_order_release);
  calls_.notify_all();
  Drain();
  int spins = 0;
  for (std::uint32_t done = done_.load(std::memory_order_acquire);
       done != static_cast<std::uint32_t>(tasks); done = done_.load(std::memory_order_acquire)) {
    if (++spins < kSpinsBeforeSleep) {
      Pause();
    } else {
      done_.wait(done, std::memory_order_acquire);
    }
  }
}

// Takes tasks until none is left. Safe when late: a claim is either a task of
// the call that the ticket states, whose job cannot change before it is done,
// or nothing.
void ThreadPool::Drain() {
  for (;;) {
    const std::uint64_t claim = ticket_.fetch_add(1, std::memory_order_acq_rel);
    const auto tasks = static_cast<std::uint32_t>(claim >> 32);
    const auto task = static_cast<std::uint32_t>(claim);
    if (task >= tasks) return;
    job_.run(job_.context, static_cast<int>(task));
    const std::uint32_t done = done_.fetch_add(1, std::memory_order_acq_rel) + 1;
    if (done == tasks) done_.notify_one();
  }
}

void ThreadPool::Work() {
  std::uint32_t seen = calls_.load(std::memory_order_acquire);
  while (!stopping_.load(std::memory_order_acquire)) {
    Drain();
    int spins = 0;
    std::uint32_t now = calls_.load(std::memory_order_acquire);
    while (now == seen) {
      if (++spins < kSpinsBeforeSleep) {
        Pause();
      } else {
        calls_.wait(seen, std::memory_order_acquire);
      }
      now = calls_.load(std::memory_order_acquire);
    }
    seen = now;
  }
}

}  // namespace kvtier::kernels
