#include "tqkv/sampling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/splitmix64.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

template <class Number>
[[noreturn]] void out_of_range(std::string_view what, Number found, std::string_view expected) {
  throw Error(ErrorKind::usage, fmt::format("sampling: {} is {}, it must be {}", what, found, expected));
}

constexpr auto likelier = [](const auto& a, const auto& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
};

/// Whether logits are changed before an id is chosen.
bool adjusts(const Sampling& sampling) {
  return sampling.repetition_penalty != 1.0f || sampling.presence_penalty != 0.0f ||
         sampling.frequency_penalty != 0.0f || !sampling.logit_bias.empty();
}

}  // namespace

void check(const Sampling& sampling) {
  const auto within = [](float value, float low, float high) {
    return value >= low && value <= high;
  };  // false for NaN
  if (!within(sampling.temperature, 0.0f, 100.0f))
    out_of_range("the temperature", sampling.temperature, "from 0 (greedy) to 100");
  if (!within(sampling.top_p, 0.0f, 1.0f) || sampling.top_p == 0.0f)
    out_of_range("top_p", sampling.top_p, "above 0 and at most 1 (off)");
  if (sampling.top_k < 0) out_of_range("top_k", sampling.top_k, "0 (off) or more");
  if (!within(sampling.min_p, 0.0f, 1.0f)) out_of_range("min_p", sampling.min_p, "from 0 (off) to 1");
  if (!within(sampling.repetition_penalty, 0.0f, 100.0f) || sampling.repetition_penalty == 0.0f)
    out_of_range("the repetition penalty", sampling.repetition_penalty, "above 0 and at most 100; 1 is off");
  if (!within(sampling.presence_penalty, -100.0f, 100.0f))
    out_of_range("the presence penalty", sampling.presence_penalty, "from -100 to 100; 0 is off");
  if (!within(sampling.frequency_penalty, -100.0f, 100.0f))
    out_of_range("the frequency penalty", sampling.frequency_penalty, "from -100 to 100; 0 is off");
  for (const auto& [id, bias] : sampling.logit_bias) {
    if (id < 0) out_of_range("an id of logit_bias", id, "0 or more");
    if (!within(bias, -100.0f, 100.0f)) out_of_range(fmt::format("the bias of id {}", id), bias, "from -100 to 100");
  }
}

double uniform(std::uint64_t seed, std::uint64_t position) {
  return static_cast<double>(splitmix64(seed, position) >> 11) * 0x1p-53;
}

Sampler::Sampler(const Sampling& sampling, std::vector<bool> allowed)
    : sampling_(sampling), allowed_(std::move(allowed)) {
  check(sampling_);
  if (allowed_.empty() || sampling_.logit_bias.empty()) return;
  const int last = sampling_.logit_bias.rbegin()->first;
  if (static_cast<std::size_t>(last) >= allowed_.size())
    out_of_range("an id of logit_bias", last, fmt::format("below {}, the size of the vocabulary", allowed_.size()));
}

bool Sampler::plain() const {
  return !adjusts(sampling_) && !hold_;
}

std::uint64_t sampling_bytes(const Sampling& sampling) {
  constexpr std::uint64_t masks = 1;  // ids that may be chosen, a bit each, and of a form
  return masks + (sampling.is_greedy() ? 0 : sizeof(Sampler::Candidate)) + (adjusts(sampling) ? sizeof(float) : 0);
}

void Sampler::prompt(std::span<const int> ids) {
  if (sampling_.repetition_penalty != 1.0f) seen_.insert(ids.begin(), ids.end());
}

int Sampler::next(std::span<const float> logits, std::uint64_t position) {
  if (!allowed_.empty() && allowed_.size() != logits.size())
    throw Error(ErrorKind::internal,
                fmt::format("sampling: {} logits, but {} ids that may be chosen", logits.size(), allowed_.size()));
  logits = adjusted(logits);
  int id = choose(logits, position, nullptr);
  if (hold_)
    if (const std::vector<bool>* among = hold_(id, logits.size())) id = choose(logits, position, among);
  if (sampling_.repetition_penalty != 1.0f) seen_.insert(id);
  if (sampling_.presence_penalty != 0.0f || sampling_.frequency_penalty != 0.0f) ++generated_[id];
  return id;
}

std::span<const float> Sampler::adjusted(std::span<const float> logits) {
  if (seen_.empty() && generated_.empty() && sampling_.logit_bias.empty()) return logits;
  adjusted_.assign(logits.begin(), logits.end());
  for (const auto& [id, bias] : sampling_.logit_bias)
    if (static_cast<std::size_t>(id) < adjusted_.size()) adjusted_[static_cast<std::size_t>(id)] += bias;
  for (const int id : seen_) {
    if (id < 0 || static_cast<std::size_t>(id) >= adjusted_.size()) continue;
    float& logit = adjusted_[static_cast<std::size_t>(id)];
    logit = logit > 0.0f ? logit / sampling_.repetition_penalty : logit * sampling_.repetition_penalty;
  }
  for (const auto& [id, count] : generated_)
    adjusted_[static_cast<std::size_t>(id)] -=
        sampling_.presence_penalty + sampling_.frequency_penalty * static_cast<float>(count);
  return adjusted_;
}

int Sampler::choose(std::span<const float> logits, std::uint64_t position, const std::vector<bool>* among) {
  if (among && among->size() != logits.size())
    throw Error(ErrorKind::internal,
                fmt::format("sampling: {} logits, but {} ids to choose from", logits.size(), among->size()));
  return sampling_.is_greedy() ? largest(logits, among) : draw(logits, position, among);
}

int Sampler::largest(std::span<const float> logits, const std::vector<bool>* among) const {
  int best = -1;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!may_be(i, among)) continue;
    if (!std::isfinite(logits[i])) continue;
    if (best < 0 || logits[i] > logits[static_cast<std::size_t>(best)]) best = static_cast<int>(i);
  }
  if (best < 0) throw Error(ErrorKind::internal, "sampling: no logit is a finite number");
  return best;
}

int Sampler::draw(std::span<const float> logits, std::uint64_t position, const std::vector<bool>* among) {
  const float top = logits[static_cast<std::size_t>(largest(logits, among))];
  candidates_.clear();
  candidates_.reserve(logits.size());  // the first step is the largest
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i]) || !may_be(i, among)) continue;
    candidates_.push_back({static_cast<int>(i), logits[i], 0.0});
  }
  const auto k = static_cast<std::size_t>(sampling_.top_k);
  if (k > 0 && k < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + sampling_.top_k, candidates_.end(), likelier);
    candidates_.resize(k);
  }
  for (Candidate& candidate : candidates_)
    candidate.weight = std::exp((static_cast<double>(candidate.logit) - top) / sampling_.temperature);
  if (sampling_.top_p < 1.0f) keep_top_p();
  // The weight is the ratio of an id's probability to the largest one.
  if (sampling_.min_p > 0.0f)
    candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(),
                                     [&](const Candidate& c) { return c.weight < sampling_.min_p; }),
                      candidates_.end());
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  double sum = 0.0;
  for (const Candidate& candidate : candidates_) sum += candidate.weight;
  const double target = uniform(sampling_.seed, position) * sum;
  double passed = 0.0;
  int last = candidates_.front().id;
  for (const Candidate& candidate : candidates_) {
    if (candidate.weight == 0.0) continue;
    passed += candidate.weight;
    last = candidate.id;
    if (passed > target) break;
  }
  return last;
}

void Sampler::keep_top_p() {
  double sum = 0.0;
  for (const Candidate& candidate : candidates_) sum += candidate.weight;
  const double share = static_cast<double>(sampling_.top_p) * sum;
  // Sorted in pieces that double, because the share is mostly reached within the first few ids.
  double held = 0.0;
  std::size_t sorted = 0;
  for (std::size_t piece = 64; sorted < candidates_.size(); piece *= 2) {
    const std::size_t end = std::min(candidates_.size(), sorted + piece);
    const auto at = [&](std::size_t i) { return candidates_.begin() + static_cast<std::ptrdiff_t>(i); };
    if (end < candidates_.size()) std::nth_element(at(sorted), at(end), candidates_.end(), likelier);
    std::sort(at(sorted), at(end), likelier);
    for (; sorted < end; ++sorted) {
      if (held >= share) {
        candidates_.resize(sorted);
        return;
      }
      held += candidates_[sorted].weight;
    }
  }
}

}  // namespace tqkv
