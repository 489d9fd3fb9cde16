// The memory plan in words.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/numbers.h"
#include "cache/names.h"
#include "cache/ranges.h"
#include "tqkv/error.h"
#include "tqkv/memory_plan.h"

namespace tqkv {
namespace {

std::string size(std::uint64_t bytes) {
  const double value = static_cast<double>(bytes);
  return bytes >= 1'000'000'000 ? fmt::format("{:.2f} GB", value / 1e9) : fmt::format("{:.2f} MB", value / 1e6);
}

std::string tokens_or_none(int context) {
  return context > 0 ? grouped(static_cast<std::uint64_t>(context)) : std::string("none");
}

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
  row("weights", plan.weights, plan.device ? "copied to the device" : "mapped from the files");
  row("keys and values", plan.kv,
      fmt::format("{} B per token, pages of {} tokens", grouped(plan.kv_per_token), cache::page_tokens));
  row("recurrent state", plan.recurrent, name(plan.state));
  row("convolution", plan.convolution, "");
  if (plan.snapshots > 0) row("snapshots", plan.snapshots, "of the recurrent state");
  row("working memory", plan.scratch, "of the forward pass");
  row("vocabulary", plan.vocabulary, "tokenizer and logits");
  if (plan.other_sessions > 0) row("other sessions", plan.other_sessions, "");
  if (plan.device) {
    row(plan.device->name, plan.device->needed,
        plan.device->available > 0 ? fmt::format("of {} available", size(plan.device->available)) : "");
    row("machine's memory", plan.anonymous(), plan.device->unified ? "the same bytes, and the vocabulary" : "");
  } else {
    row("anonymous", plan.anonymous(), "all but the weights");
  }
  if (plan.available == 0 && !plan.device) {
    out += "  available            not known: nothing is refused\n";
    return out;
  }
  if (plan.available > 0) row("available", plan.available, "free, or left in the container");
  if (plan.promised > 0) row("promised", plan.promised, "of it, to other processes of tqkv");
  if (plan.available > 0) row("kept free", plan.keep_free, "of it");
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
  const bool on_device = plan.device && !plan.device->fits();
  const std::string need = plan.device && !plan.device->array_fits()
                               ? fmt::format("one array of {}, but one of {} can have {}", size(plan.device->array),
                                             plan.device->name, size(plan.device->largest_array))
                           : on_device
                               ? fmt::format("{} of {}, weights included, but {} are available",
                                             size(plan.device->needed), plan.device->name, size(plan.device->available))
                               : fmt::format("{} of memory{}, but {} are available", size(plan.anonymous()),
                                             plan.device ? "" : " in addition to the weights", size(plan.usable()));
  std::string ways = "ask for a shorter --context";
  if (plan.fitting_chunk > 0) ways += fmt::format(", give --prefill-chunk {}", plan.fitting_chunk);
  if (on_device && !plan.device->advice.empty()) ways += ", " + plan.device->advice;
  throw Error(ErrorKind::memory,
              fmt::format("memory plan: {} tokens with {} need {}: the largest context that fits is {} tokens ({}); "
                          "{}, or --force it",
                          plan.context, plan.format.canonical(), need, tokens_or_none(plan.largest_context),
                          others_text(plan), ways));
}

}  // namespace tqkv
