#include "attention.h"

#include <algorithm>
#include <string>
#include <vector>

#include "isa.h"
#include "memory.h"
#include "thread_pool.h"

namespace kvtier::kernels {
namespace {

// Query rows (tokens times heads of a group) at which attention_many overtakes
// attention_one.
constexpr int kManyRowsMin = 12;
// Query rows of an attention_many task: enough to pay for converting each block
// of keys.
constexpr int kTaskRows = 384;
constexpr int kTaskRowsMin = 48;
constexpr int kTasksPerThread = 4;

// The tasks of a call; merges run after the others.
struct Plan {
  std::vector<AttentionTask> many;
  std::vector<AttentionTask> ones;
  std::vector<AttentionTask> merges;
  int partials = 0;
};

void Check(const AttentionCall& call) {
  CheckPool(call.pool);
  call.batch->CheckPool(call.pool);
  Require(call.query.data != nullptr, "attention: the address of the queries is null");
  Require(call.out.data != nullptr, "attention: the address of out is null");
  Require(call.query.heads >= 1 && call.query.heads % call.pool.kv_heads == 0,
          "attention: " + std::to_string(call.query.heads) + " heads cannot share " +
              std::to_string(call.pool.kv_heads) + " kv heads");
  Require(call.Group() <= kGroupMax,
          "attention: more than " + std::to_string(kGroupMax) + " query heads share a kv head");
  Require(call.scale > 0, "attention: scale must be greater than 0");
  Require(call.window >= 0, "attention: window must not be negative");
  Require(call.softcap >= 0, "attention: softcap must not be negative");
  for (const Sequence& sequence : call.batch->sequences()) {
    Require(sequence.context < kContextMax,
            "attention: a context is longer than " + std::to_string(kContextMax - 1) + " tokens");
  }
}

bool IsMany(const AttentionCall& call, const Sequence& sequence) {
  return sequence.tokens * call.Group() >= kManyRowsMin;
}

// Tokens in a task: many, unless that leaves threads without work.
int TaskTokens(const AttentionCall& call) {
  std::int64_t rows = 0;
  for (const Sequence& sequence : call.batch->sequences()) {
    if (IsMany(call, sequence)) rows += std::int64_t{sequence.tokens} * call.query.heads;
  }
  const std::int64_t fair = rows / (std::int64_t{kTasksPerThread} * ThreadPool::Threads());
  const auto wanted = static_cast<int>(std::clamp<std::int64_t>(fair, kTaskRowsMin, kTaskRows));
  return std::max(1, wanted / call.Group());
}

// The longest first: the last tokens of a sequence see the most keys.
void PlanMany(const AttentionCall& call, int number, int task_tokens, Plan& plan) {
  const Sequence& sequence = call.batch->sequences()[static_cast<std::size_t>(number)];
  const int tiles = (sequence.tokens + task_tokens - 1) / task_tokens;
  for (int tile = tiles - 1; tile >= 0; --tile) {
    AttentionTask task;
    task.sequence = number;
    task.first_token = tile * task_tokens;
    task.tokens = std::min(task_tokens, sequence.tokens - task.first_token);
    for (task.kv_head = 0; task.kv_head < call.pool.kv_heads; ++task.kv_head) {
      plan.many.push_back(task);
    }
  }
}

void PlanOnes(const AttentionCall& call, int number, Plan& plan) {
  const Sequence& sequence = call.batch->sequences()[static_cast<std::size_t>(number)];
  for (int token = 0; token < sequence.tokens; ++token) {
    const int position = sequence.FirstPosition() + token;
    const int first_split = call.FirstKey(position) / kKeySplit;
    for (int kv_head = 0; kv_head < call.pool.kv_heads; ++kv_head) {
      AttentionTask task;
      task.sequence = number;
      task.kv_head = kv_head;
      task.first_token = token;
      task.tokens = 1;
      task.splits = position / kKeySplit - first_split + 1;
      task.partial = plan.partials;
      plan.merges.push_back(task);
      for (int i = 0; i < task.splits; ++i) {
        task.split = first_split + i;
        task.partial = plan.partials++;
        plan.ones.push_back(task);
      }
    }
  }
}

Plan MakePlan(const AttentionCall& call) {
  Plan plan;
  const int task_tokens = TaskTokens(call);
  const auto sequences = static_cast<int>(call.batch->sequences().size());
  for (int number = 0; number < sequences; ++number) {
    if (IsMany(call, call.batch->sequences()[static_cast<std::size_t>(number)])) {
      PlanMany(call, number, task_tokens, plan);
    } else {
      PlanOnes(call, number, plan);
    }
  }
  return plan;
}

}  // namespace

void Attention(AttentionCall call) {
  if (call.batch->tokens() == 0) return;
  Check(call);
  static Workspace* partials = new Workspace;  // guarded by the pool's mutex; never destroyed
  ThreadPool& pool = ThreadPool::Get();
  const std::lock_guard lock(pool.mutex());
  const KernelTable& kernels = Kernels();
  const Plan plan = MakePlan(call);
  call.sequences = call.batch->sequences().data();
  call.partials = partials->Floats(static_cast<std::size_t>(plan.partials) *
                                   static_cast<std::size_t>(call.PartialFloats()));
  const auto many = static_cast<int>(plan.many.size());
  pool.Run(many + static_cast<int>(plan.ones.size()), [&](int number) {
    if (number < many) {
      kernels.attention_many(call, plan.many[static_cast<std::size_t>(number)]);
    } else {
      kernels.attention_one(call, plan.ones[static_cast<std::size_t>(number - many)]);
    }
  });
  pool.Run(static_cast<int>(plan.merges.size()), [&](int number) {
    kernels.attention_merge(call, plan.merges[static_cast<std::size_t>(number)]);
  });
}

}  // namespace kvtier::kernels
