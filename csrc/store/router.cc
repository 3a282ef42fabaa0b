#include "router.h"

#include <algorithm>
#include <utility>

namespace kvtier {
namespace {

constexpr std::size_t kLagMax = 8;  // pages that a directory may lag behind another

}  // namespace

Router::Router(std::vector<std::uint64_t> slots_max)
    : slots_max_(std::move(slots_max)),
      sent_(slots_max_.size()),
      takes_writes_(slots_max_.size()) {}

std::optional<std::size_t> Router::Choose(std::span<const std::shared_ptr<Lane>> lanes,
                                          const Catalog& catalog) {
  const std::lock_guard lock(mutex_);
  Update(lanes);
  std::optional<std::size_t> next, shortest;
  std::vector<std::size_t> in_use;
  std::vector<std::size_t> queued(lanes.size());
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    if (!takes_writes_[i]) continue;
    in_use.push_back(i);
    queued[i] = lanes[i]->writes_queued();
    if (!next || Share(i) < Share(*next)) next = i;
    if (!shortest || queued[i] < queued[*shortest]) shortest = i;
  }
  if (!next) return std::nullopt;
  if (const auto victims = catalog.BestVictim(in_use)) next = victims;
  if (queued[*next] - queued[*shortest] > kLagMax) next = shortest;
  ++sent_[*next];
  return next;
}

// One that was away does not make up for what it missed: all writes would go there until it had.
void Router::Update(std::span<const std::shared_ptr<Lane>> lanes) {
  std::optional<double> least;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    if (takes_writes_[i]) least = std::min(least.value_or(Share(i)), Share(i));
  }
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    const bool takes_writes = lanes[i] && lanes[i]->writes_in_use();
    if (takes_writes && !takes_writes_[i] && least) {
      const double missed = *least * static_cast<double>(slots_max_[i]);
      sent_[i] = std::max(sent_[i], static_cast<std::uint64_t>(missed));
    }
    takes_writes_[i] = takes_writes;
  }
}

double Router::Share(std::size_t directory) const {
  return static_cast<double>(sent_[directory]) / static_cast<double>(slots_max_[directory]);
}

}  // namespace kvtier
