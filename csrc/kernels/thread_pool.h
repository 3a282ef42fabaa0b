// The kernels' own threads: few, kept, asleep when the engine is idle.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace kvtier::kernels {

// Runs the tasks of one kernel call on the calling thread and on threads - 1
// workers.
//
// Which thread runs which task is left to chance, so a task's result must not
// depend on it. A worker spins for some tens of microseconds after its last
// task, so that the many calls of one model step find it awake, and then sleeps
// in the kernel.
//
// The pool is created on first use and never destroyed (a process may exit
// while its workers sleep). A forked child has no workers of its parent's: it
// gets a new pool on first use.
class ThreadPool {
 public:
  static ThreadPool& Get();

  // The number of threads that the next pool will have. Waits for a running
  // call. Throws std::invalid_argument unless 1 <= threads <= kThreadsMax.
  static void SetThreads(int threads);
  static int Threads();

  // Hold it during a kernel call: the pool and the shared workspace serve one
  // at a time.
  std::mutex& mutex() { return mutex_; }

  // Calls body(task) for each task in [0, tasks), in any order, and returns
  // when all are done. The caller holds mutex(). `body` must not throw and must
  // not call Run.
  template <typename Body>
  void Run(int tasks, const Body& body) {
    RunErased(
        tasks,
        {[](const void* context, int task) { (*static_cast<const Body*>(context))(task); }, &body});
  }

  static constexpr int kThreadsMax = 256;

 private:
  struct Job {
    void (*run)(const void* context, int task) = nullptr;
    const void* context = nullptr;
  };

  explicit ThreadPool(int threads);
  void RunErased(int tasks, const Job& job);
  void Work();
  void Drain();
  void StopWorkers();

  std::mutex mutex_;
  std::vector<std::thread> workers_;
  Job job_;
  // tasks << 32 | next task: one word, so that a claim can never pair a task
  // number of one call with the task count of another.
  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<std::uint32_t> calls_{0};  // bumped per Run; what workers sleep on
  alignas(64) std::atomic<std::uint32_t> done_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace kvtier::kernels
