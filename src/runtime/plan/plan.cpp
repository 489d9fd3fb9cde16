#include "runtime/plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "base/memory_info.h"
#include "cache/accounting.h"
#include "model/weights.h"
#include "runtime/plan/running.h"
#include "runtime/plan/weight_reads.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

// Those whose largest context a plan names next to its own.
constexpr std::array<const char*, 6> named_formats = {"baseline",   "default",       "mlx_quant",
                                                      "turboquant", "rotated_quant", "trellis"};

// Bytes of a token in the tables of the tokenizer, measured on that of the pocket model; and of a row of the vocabulary
// in what samples from it.
constexpr std::uint64_t bytes_per_token_of_tokenizer = 402, bytes_per_sampled_row = 18;

constexpr int fewest_in_chunk = 32;  // below it a prompt is as slow as decoding

// What the sessions of one request take on one device.
class Planner {
 public:
  Planner(const DeviceKind& kind, const ModelConfig& config, const PlanRequest& request)
      : kind_(kind), config_(config), request_(request) {
    if (kind.memory) memory_ = kind.memory(request.device);
  }

  // Fills in the bytes of `plan` for its format and `tokens` tokens.
  void add_demands(MemoryPlan& plan, int tokens) const {
    const CacheBytes bytes = bytes_at(plan.format, tokens);
    plan.kv = bytes.kv_allocated;
    plan.recurrent = bytes.recurrent;
    plan.convolution = bytes.convolution;
    plan.snapshots = snapshot_bytes(plan.format, tokens);
    plan.scratch = working_memory(plan.format, tokens);
    plan.vocabulary = vocabulary_bytes();
    plan.other_sessions = request_.other_sessions;
    if (!memory_) return;
    plan.device = {memory_->name, plan.weights + plan.sessions(), memory_->available, memory_->unified, {}};
    if (kind_.largest_array) {
      plan.device->array = kind_.largest_array(config_, request_.device, pass_size(plan.format, tokens));
      plan.device->largest_array = memory_->largest_array;
    }
    if (!plan.device->memory_fits() && memory_->advice) plan.device->advice = memory_->advice(plan.device->needed);
  }

  // The largest of half the chunk, a quarter and so on with which `plan` fits; 0 where none does.
  int fitting_chunk(MemoryPlan plan) const {
    PlanRequest smaller = request_;
    for (int chunk = request_.session.prefill_chunk / 2; chunk >= fewest_in_chunk; chunk /= 2) {
      smaller.session.prefill_chunk = chunk;
      Planner(kind_, config_, smaller).add_demands(plan, plan.context);
      if (plan.fits()) return chunk;
    }
    return 0;
  }

  // Most tokens of `format` that fit next to everything else of `plan`. Whole pages only: a session allocates them so.
  int largest_context(MemoryPlan plan, const KvFormat& format) const {
    const int native = config_.max_position_embeddings;
    if (plan.available == 0 && !memory_) return native;
    plan.format = format;
    const auto tokens_of = [native](int pages) {
      return static_cast<int>(std::min<std::int64_t>(std::int64_t{pages} * cache::page_tokens, native));
    };
    int fit = 0, beyond = cache::pages_for(native) + 1;
    while (beyond - fit > 1) {
      const int pages = fit + (beyond - fit) / 2;
      add_demands(plan, tokens_of(pages));
      (plan.fits() ? fit : beyond) = pages;
    }
    return tokens_of(fit);
  }

 private:
  CacheBytes bytes_at(const KvFormat& held, int tokens) const {
    return cache::cache_bytes(config_, held, tokens, request_.session.state, request_.device.precision,
                              kind_.allocation);
  }

  PassSize pass_size(const KvFormat& held, int tokens) const {
    return {std::min(request_.session.prefill_chunk, tokens), tokens, cache::widest_vector(config_, held),
            request_.every_row};
  }

  // A window holds the chunk that is being fed beside its own tokens, one layer at a time.
  std::uint64_t working_memory(const KvFormat& held, int tokens) const {
    const PassSize size = pass_size(held, tokens);
    const std::uint64_t bf16_token = 4 * static_cast<std::uint64_t>(config_.kv_dim());
    return kind_.working_memory(config_, request_.device, size) +
           (held.window > 0 ? static_cast<std::uint64_t>(size.rows + cache::page_tokens) * bf16_token : 0);
  }

  std::uint64_t snapshot_bytes(const KvFormat& held, int tokens) const {
    return static_cast<std::uint64_t>(std::max(request_.snapshots, 0)) *
           cache::snapshot_bytes(config_, held, tokens, request_.session.state, request_.device.precision,
                                 kind_.allocation);
  }

  std::uint64_t vocabulary_bytes() const {
    const auto rows = static_cast<std::uint64_t>(config_.vocab_size);
    const auto tokens = static_cast<std::uint64_t>(request_.tokenizer.value_or(config_.vocab_size));
    return tokens * bytes_per_token_of_tokenizer + rows * bytes_per_sampled_row;
  }

  const DeviceKind& kind_;
  const ModelConfig& config_;
  const PlanRequest& request_;
  std::optional<DeviceMemory> memory_;
};

void check_request(const ModelConfig& config, const SessionOptions& session) {
  const int native = config.max_position_embeddings;
  if (session.context < 0) throw Error(ErrorKind::usage, "memory plan: a context of less than 1 token was asked");
  if (session.context > native) {
    throw Error(ErrorKind::usage,
                fmt::format("memory plan: a context of {} tokens was asked for, but the model was made for "
                            "at most {}: ask for a shorter one",
                            session.context, native));
  }
  if (session.prefill_chunk < 1) throw Error(ErrorKind::usage, "memory plan: a prefill chunk has at least 1 token");
}

// Dense weights are touched at every token and stay; experts come and go.
std::uint64_t disk_bytes_per_token(const ModelConfig& config, std::uint64_t room) {
  const WeightReads reads = weight_reads(config);
  const auto experts = static_cast<std::uint64_t>(reads.of_experts(1));
  if (room < reads.dense) return experts + (reads.dense - room);
  if (reads.experts == 0) return 0;
  const std::uint64_t resident = std::min(room - reads.dense, reads.experts);
  const double absent = 1.0 - static_cast<double>(resident) / static_cast<double>(reads.experts);
  return static_cast<std::uint64_t>(absent * static_cast<double>(experts));
}

}  // namespace

std::vector<WeightKind> expected_weights(const ModelConfig& config) {
  std::vector<WeightKind> kinds;
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    auto found =
        std::find_if(kinds.begin(), kinds.end(), [&](const WeightKind& kind) { return kind.kind == tensor.kind; });
    if (found == kinds.end()) found = kinds.insert(kinds.end(), WeightKind{tensor.kind, 0, 0});
    ++found->tensors;
    found->bytes += tensor.bytes;
  }
  return kinds;
}

std::uint64_t kept_free(std::uint64_t total) {
  return std::min<std::uint64_t>(total / 64, 256'000'000);
}

MemoryGuard memory_guard() {
  return {[] { return available_memory(); }, kept_free(total_memory()) / 2};
}

MemoryPlan plan_memory(const ModelConfig& config, std::uint64_t weight_bytes, const KvFormat& format,
                       const PlanRequest& request) {
  return plan_memory(kind_of(request.device.device), config, weight_bytes, format, request);
}

MemoryPlan plan_memory(const DeviceKind& kind, const ModelConfig& config, std::uint64_t weight_bytes,
                       const KvFormat& format, const PlanRequest& asked) {
  PlanRequest request = asked;
  if (kind.report) request.device.precision = kind.report(asked.device).precision;  // a device may have one alone
  check_request(config, request.session);
  MemoryPlan plan;
  plan.format = cache::as_stored(format, request.device.precision);
  check_format(kind, config, plan.format);
  plan.precision = request.device.precision;
  plan.state = request.session.state;
  plan.native_context = config.max_position_embeddings;
  plan.context = request.session.context == 0 ? plan.native_context : request.session.context;
  plan.weights = kind.weight_bytes ? kind.weight_bytes(config, weight_bytes, request.device) : weight_bytes;
  plan.kv_per_token = cache::bytes_per_token(config, plan.format);
  const Planner planner(kind, config, request);
  planner.add_demands(plan, plan.context);

  plan.available = request.available ? *request.available : available_memory();
  plan.keep_free = kept_free(request.available ? *request.available : total_memory());
  if (request.promised) plan.promised = *request.promised;
  if (!request.promised && !request.available)
    for (const RunningProcess& other : running_processes()) plan.promised += other.promised();
  plan.largest_context = planner.largest_context(plan, plan.format);
  for (const char* name : named_formats) {
    const KvFormat other = cache::as_stored(KvFormat::parse(name), request.device.precision);
    if (other == plan.format) continue;
    try {
      check_format(kind, config, other);
    } catch (const Error&) {
      continue;  // no answer for this model on this device
    }
    plan.others.push_back({other, planner.largest_context(plan, other)});
  }

  if (!plan.fits()) {
    plan.verdict = Verdict::refused;
    plan.fitting_chunk = planner.fitting_chunk(plan);
  } else if (plan.available > 0 && !plan.device && plan.usable() - plan.anonymous() < weight_bytes) {
    plan.disk_per_token = disk_bytes_per_token(config, plan.usable() - plan.anonymous());
    if (plan.disk_per_token > 0) plan.verdict = Verdict::weights_spill;
  }
  return plan;
}

}  // namespace tqkv
