#include "tqkv/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "base/memory_info.h"
#include "base/numbers.h"
#include "cache/accounting.h"
#include "cache/names.h"
#include "model/weights.h"
#include "runtime/devices.h"
#include "runtime/running.h"
#include "runtime/weight_reads.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

// Those whose largest context a plan names next to its own.
constexpr std::array<const char*, 6> named_formats = {"baseline",   "default",       "mlx_quant",
                                                      "turboquant", "rotated_quant", "trellis"};

// Bytes of a token in the tables of the tokenizer, measured on that of the pocket model; and of a row of the vocabulary
// in what samples from it.
constexpr std::uint64_t bytes_per_token_of_tokenizer = 402, bytes_per_sampled_row = 18;

KvFormat as_held(const KvFormat& format, Precision precision) {
  return precision == Precision::f32 ? format.in_f32() : format;
}

int conv_bits(Precision precision) {
  return precision == Precision::f32 ? 32 : 16;
}

CacheBytes bytes_at(const ModelConfig& config, const KvFormat& held, int tokens, const PlanRequest& request) {
  return cache::cache_bytes(config, held, tokens, request.session.state, conv_bits(request.device.precision));
}

// Working memory; and a window holds the chunk that is being fed beside its own tokens, one layer at a time.
std::uint64_t scratch_at(const ModelConfig& config, const KvFormat& held, int tokens, const PlanRequest& request) {
  const int chunk = std::min(request.session.prefill_chunk, tokens);
  const std::uint64_t bf16_token = 4 * static_cast<std::uint64_t>(config.kv_dim());
  return kind_of(request.device.device)
             .working_memory(config, request.device,
                             {chunk, tokens, cache::widest_vector(config, held), request.every_row}) +
         (held.window > 0 ? static_cast<std::uint64_t>(chunk + cache::page_tokens) * bf16_token : 0);
}

// A snapshot copies the recurrent state, the mean of keys and the window, whose older tokens are let go: it touches the
// most pages where its last token is the first of one.
std::uint64_t snapshot_bytes(const ModelConfig& config, const KvFormat& held, int tokens, const PlanRequest& request) {
  KvFormat without = held;
  without.window = without.mean = 0;
  const int last = tokens - (tokens - 1) % cache::page_tokens;
  const CacheBytes bytes = bytes_at(config, held, last, request);
  const std::uint64_t copied = bytes.kv_allocated - bytes_at(config, without, last, request).kv_allocated;
  return static_cast<std::uint64_t>(std::max(request.snapshots, 0)) * (bytes.state() + copied);
}

std::uint64_t vocabulary_bytes(const ModelConfig& config, const PlanRequest& request) {
  const auto rows = static_cast<std::uint64_t>(config.vocab_size);
  const auto tokens = static_cast<std::uint64_t>(request.tokenizer.value_or(config.vocab_size));
  return tokens * bytes_per_token_of_tokenizer + rows * bytes_per_sampled_row;
}

std::uint64_t anonymous_at(const ModelConfig& config, const KvFormat& held, int tokens, const PlanRequest& request) {
  const CacheBytes bytes = bytes_at(config, held, tokens, request);
  return bytes.allocated() + snapshot_bytes(config, held, tokens, request) + scratch_at(config, held, tokens, request) +
         vocabulary_bytes(config, request) + request.other_sessions;
}

// Whole pages only: a session allocates them so.
int largest_context(const ModelConfig& config, const KvFormat& held, const PlanRequest& request,
                    const MemoryPlan& plan) {
  const int native = config.max_position_embeddings;
  if (plan.available == 0) return native;
  const auto tokens_of = [native](int pages) {
    return static_cast<int>(std::min<std::int64_t>(std::int64_t{pages} * cache::page_tokens, native));
  };
  int fit = 0, beyond = cache::pages_for(native) + 1;
  while (beyond - fit > 1) {
    const int pages = fit + (beyond - fit) / 2;
    (anonymous_at(config, held, tokens_of(pages), request) <= plan.usable() ? fit : beyond) = pages;
  }
  return tokens_of(fit);
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

std::string size(std::uint64_t bytes) {
  const double value = static_cast<double>(bytes);
  return bytes >= 1'000'000'000 ? fmt::format("{:.2f} GB", value / 1e9) : fmt::format("{:.2f} MB", value / 1e6);
}

std::string tokens_or_none(int context) {
  return context > 0 ? grouped(static_cast<std::uint64_t>(context)) : std::string("none");
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
  const int native = config.max_position_embeddings;
  if (request.session.context < 0)
    throw Error(ErrorKind::usage, "memory plan: a context of less than 1 token was asked");
  if (request.session.context > native) {
    throw Error(ErrorKind::usage,
                fmt::format("memory plan: a context of {} tokens was asked, but the model was made for "
                            "at most {}: ask for a shorter one",
                            request.session.context, native));
  }
  if (request.session.prefill_chunk < 1)
    throw Error(ErrorKind::usage, "memory plan: a prefill chunk has at least 1 token");

  MemoryPlan plan;
  plan.format = as_held(format, request.device.precision);
  cache::check_format(config, plan.format);
  plan.precision = request.device.precision;
  plan.state = request.session.state;
  plan.context = request.session.context == 0 ? native : request.session.context;
  plan.native_context = native;
  plan.weights = weight_bytes;

  const CacheBytes bytes = bytes_at(config, plan.format, plan.context, request);
  plan.kv = bytes.kv_allocated;
  plan.kv_per_token = cache::bytes_per_token(config, plan.format);
  plan.recurrent = bytes.recurrent;
  plan.convolution = bytes.convolution;
  plan.snapshots = snapshot_bytes(config, plan.format, plan.context, request);
  plan.scratch = scratch_at(config, plan.format, plan.context, request);
  plan.vocabulary = vocabulary_bytes(config, request);
  plan.other_sessions = request.other_sessions;

  plan.available = request.available ? *request.available : available_memory();
  plan.keep_free = kept_free(request.available ? *request.available : total_memory());
  if (request.promised) plan.promised = *request.promised;
  if (!request.promised && !request.available)
    for (const RunningProcess& other : running_processes()) plan.promised += other.promised();
  plan.largest_context = largest_context(config, plan.format, request, plan);
  for (const char* name : named_formats) {
    const KvFormat other = as_held(KvFormat::parse(name), request.device.precision);
    if (other == plan.format) continue;
    try {
      cache::check_format(config, other);
    } catch (const Error&) {
      continue;  // no answer for this model
    }
    plan.others.push_back({other, largest_context(config, other, request, plan)});
  }

  if (plan.available == 0) return plan;
  if (plan.anonymous() > plan.usable()) {
    plan.verdict = Verdict::refused;
  } else if (const std::uint64_t room = plan.usable() - plan.anonymous(); room < weight_bytes) {
    plan.disk_per_token = disk_bytes_per_token(config, room);
    if (plan.disk_per_token > 0) plan.verdict = Verdict::weights_spill;
  }
  return plan;
}

namespace {

// "default 32,768, mlx_quant 16,384"
std::string others_text(const MemoryPlan& plan) {
  std::vector<std::string> formats;
  for (const MemoryPlan::Largest& other : plan.others) formats.push_back(other.format.canonical());
  const auto names = cache::short_names(formats);
  std::string text;
  for (const MemoryPlan::Largest& other : plan.others)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", names.at(other.format.canonical()),
                        tokens_or_none(other.context));
  return text;
}

}  // namespace

std::string describe(const MemoryPlan& plan) {
  std::string out = fmt::format("memory plan: {}, context {} of {} tokens, {} precision\n", plan.format.canonical(),
                                grouped(static_cast<std::uint64_t>(plan.context)),
                                grouped(static_cast<std::uint64_t>(plan.native_context)), name(plan.precision));
  const auto row = [&](std::string_view label, std::uint64_t bytes, std::string_view note) {
    out += fmt::format("  {:<20} {:>12}{}{}\n", label, size(bytes), note.empty() ? "" : "   ", note);
  };
  row("weights", plan.weights, "mapped from the files");
  row("keys and values", plan.kv,
      fmt::format("{} B per token, pages of {} tokens", grouped(plan.kv_per_token), cache::page_tokens));
  row("recurrent state", plan.recurrent, name(plan.state));
  row("convolution", plan.convolution, "");
  if (plan.snapshots > 0) row("snapshots", plan.snapshots, "of the recurrent state");
  row("working memory", plan.scratch, "of the forward pass");
  row("vocabulary", plan.vocabulary, "tokenizer and logits");
  if (plan.other_sessions > 0) row("other sessions", plan.other_sessions, "");
  row("anonymous", plan.anonymous(), "all but the weights");
  if (plan.available == 0) {
    out += "  available            not known: nothing is refused\n";
    return out;
  }
  row("available", plan.available, "free, or left in the container");
  if (plan.promised > 0) row("promised", plan.promised, "of it, to other processes of tqkv");
  row("kept free", plan.keep_free, "of it");
  switch (plan.verdict) {
    case Verdict::fits:
      out += "  fits";
      break;
    case Verdict::weights_spill:
      out += fmt::format("  fits, but about {} of weights must be read from the disk for each token",
                         size(plan.disk_per_token));
      break;
    case Verdict::refused:
      out += "  does not fit";
      break;
  }
  out += fmt::format("; largest context: {} tokens", tokens_or_none(plan.largest_context));
  if (!plan.others.empty()) out += ", " + others_text(plan);
  return out + "\n";
}

std::string warning(const MemoryPlan& plan) {
  if (plan.verdict != Verdict::weights_spill) return {};
  return fmt::format(
      "weights of {} do not fit together with {} of cache and working memory in the {} available: about {} will be "
      "read from "
      "the disk for each token",
      size(plan.weights), size(plan.anonymous()), size(plan.usable()), size(plan.disk_per_token));
}

void require_fit(const MemoryPlan& plan) {
  if (plan.verdict != Verdict::refused) return;
  throw Error(
      ErrorKind::memory,
      fmt::format(
          "memory plan: {} tokens with {} need {} of memory in addition to the weights, but {} are available: the "
          "largest context that fits is {} tokens ({}); ask for a shorter --context, or --force it",
          plan.context, plan.format.canonical(), size(plan.anonymous()), size(plan.usable()),
          tokens_or_none(plan.largest_context), others_text(plan)));
}

}  // namespace tqkv
