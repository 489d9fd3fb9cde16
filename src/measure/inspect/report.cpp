#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/numbers.h"
#include "measure/figures/text_table.h"
#include "measure/inspect/inspect.h"
#include "tqkv/version.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

std::string quantization_text(const ModelConfig& config) {
  const auto words = [](const Quantization& quantization) {
    return quantization.bits == 0 ? std::string("not quantized")
                                  : fmt::format("{} bits in groups of {}", quantization.bits, quantization.group_size);
  };
  std::string out = words(config.quantization);
  std::map<std::string, int> others;
  for (const auto& [module, quantization] : config.overrides) {
    if (words(quantization) != words(config.quantization)) ++others[words(quantization)];
  }
  for (const auto& [text, modules] : others) {
    out += fmt::format("; {} in {} module{}", text, modules, modules == 1 ? "" : "s");
  }
  return out;
}

double bits_per_value(const ModelConfig& config, std::uint64_t bytes_per_token) {
  const double values = 2.0 * config.attention_layers() * config.num_key_value_heads * config.head_dim;
  return values > 0 ? 8.0 * static_cast<double>(bytes_per_token) / values : 0;
}

// "1K", "256K", or the number itself.
std::string context_text(int context) {
  return context % 1024 == 0 ? fmt::format("{}K", context / 1024) : std::to_string(context);
}

std::string_view verdict_name(Verdict verdict) {
  switch (verdict) {
    case Verdict::fits:
      return "fits";
    case Verdict::weights_spill:
      return "weights_spill";
    case Verdict::refused:
      return "refused";
  }
  return "";
}

std::string architecture_text(const Inspection& inspection) {
  const ModelConfig& c = inspection.config;
  std::string out = fmt::format("{}\n", inspection.model);
  const auto row = [&](std::string_view label, const std::string& text) {
    out += fmt::format("  {:<16}{}\n", label, text);
  };
  row("architecture", fmt::format("{}, {} layers: {} full attention, {} gated delta net", c.model_type, c.num_layers(),
                                  c.attention_layers(), c.linear_layers()));
  row("sizes", fmt::format("hidden {}, vocabulary {}{}, {}context {} tokens", c.hidden_size,
                           grouped(static_cast<std::uint64_t>(c.vocab_size)), c.tie_word_embeddings ? " (tied)" : "",
                           c.yarn ? "" : "native ", grouped(static_cast<std::uint64_t>(c.max_position_embeddings))));
  if (c.yarn)
    row("context", fmt::format("YaRN, factor {} of {} native tokens", c.yarn->factor,
                               grouped(static_cast<std::uint64_t>(c.yarn->original_context))));
  row("attention", fmt::format("{} query heads, {} key-value heads of {} channels, {} of them rotary",
                               c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.rotary_dim));
  row("delta net",
      fmt::format("{} key heads of {}, {} value heads of {}, convolution of {}", c.linear_num_key_heads,
                  c.linear_key_head_dim, c.linear_num_value_heads, c.linear_value_head_dim, c.linear_conv_kernel_dim));
  if (c.moe()) {
    row("experts", fmt::format("{}, {} a token, each {} wide; a shared one {} wide", c.num_experts,
                               c.num_experts_per_tok, c.moe_intermediate_size, c.shared_expert_intermediate_size));
  } else {
    row("mlp", fmt::format("dense, {} wide", c.intermediate_size));
  }
  row("quantization", quantization_text(c));
  return out;
}

std::string weights_text(const Inspection& inspection) {
  std::string out =
      inspection.with_weights ? "weights, as the files hold them\n" : "weights, as the config describes them\n";
  TextTable table({"kind", "tensors", "MB", "bytes"});
  int tensors = 0;
  for (const WeightKind& kind : inspection.weights) {
    table.add({kind.kind, std::to_string(kind.tensors), megabytes(kind.bytes), grouped(kind.bytes)});
    tensors += kind.tensors;
  }
  table.add({"total", std::to_string(tensors), megabytes(inspection.weight_bytes), grouped(inspection.weight_bytes)});
  out += table.text("  ");
  if (!inspection.missing.empty()) {
    out += fmt::format("  {} expected tensors are missing, {} first\n", inspection.missing.size(),
                       inspection.missing.front());
  }
  return out;
}

std::string formats_text(const Inspection& inspection) {
  std::string out = "cache formats\n";
  constexpr std::size_t widest = 70;  // of a format that stands in the table
  TextTable table({"backend", "bits/value", "bytes/token", "x smaller", "format"});
  std::string below;
  for (std::size_t i = 0; i < inspection.formats.size(); ++i) {
    const std::uint64_t bytes = inspection.bytes_per_token[i];
    const double smaller =
        bytes > 0 ? static_cast<double>(inspection.bytes_per_token.front()) / static_cast<double>(bytes) : 0;
    std::string format = inspection.formats[i].format.canonical();
    if (format.size() > widest) {
      below += fmt::format("  {} is {}\n", inspection.formats[i].label, format);
      format = "see below";
    }
    table.add({inspection.formats[i].label, fmt::format("{:.4f}", bits_per_value(inspection.config, bytes)),
               grouped(bytes), fmt::format("{:.2f}", smaller), std::move(format)});
  }
  out += table.text("  ") + below;
  const auto state = [](const CacheBytes& bytes) {
    return fmt::format("{} MB ({} B: {} recurrent, {} convolution)", megabytes(bytes.state()), grouped(bytes.state()),
                       grouped(bytes.recurrent), grouped(bytes.convolution));
  };
  out += fmt::format("  state in bf16  {}\n  state in f32   {}\n", state(inspection.state_bf16),
                     state(inspection.state_f32));
  return out;
}

std::string stored_text(const Inspection& inspection) {
  std::string out;
  const std::size_t formats = inspection.formats.size();
  for (std::size_t first = 0; first < inspection.stored.size(); first += formats) {
    const StoredCache& head = inspection.stored[first];
    out += fmt::format("{}cache after {} prompt + {} generated tokens: {} are stored, the last is not fed\n",
                       first == 0 ? "" : "\n", head.prompt, head.generation,
                       grouped(static_cast<std::uint64_t>(head.tokens)));
    TextTable table({"backend, bf16 state", "used MB", "(KV MB)", "used bytes", "alloc. MB", "(KV MB)", "alloc. bytes",
                     "| f32 state: used", "alloc. MB"});
    for (std::size_t i = first; i < first + formats; ++i) {
      const StoredCache& cache = inspection.stored[i];
      table.add({cache.label, megabytes(cache.bf16_state.used()),
                 fmt::format("({})", megabytes(cache.bf16_state.kv_used)), grouped(cache.bf16_state.used()),
                 megabytes(cache.bf16_state.allocated()), fmt::format("({})", megabytes(cache.bf16_state.kv_allocated)),
                 grouped(cache.bf16_state.allocated()), fmt::format("| {:>15}", megabytes(cache.f32_state.used())),
                 megabytes(cache.f32_state.allocated())});
    }
    out += table.text("  ");
  }
  return out;
}

// One row a format, one column a context.
template <class Cell>
std::string by_context(const Inspection& inspection, const char* last_header, const Cell& cell) {
  std::vector<std::string> header = {"backend"};
  for (const int context : inspection.contexts) header.push_back(context_text(context));
  if (last_header != nullptr) header.emplace_back(last_header);
  TextTable table(std::move(header));
  for (std::size_t i = 0; i < inspection.formats.size(); ++i) {
    std::vector<std::string> row = {inspection.formats[i].label};
    for (const MemoryPlan& plan : inspection.plans[i]) row.push_back(cell(plan));
    if (last_header != nullptr)
      row.push_back(grouped(static_cast<std::uint64_t>(inspection.plans[i].front().largest_context)));
    table.add(std::move(row));
  }
  return table.text("  ");
}

std::string plans_text(const Inspection& inspection) {
  std::string out = "keys and values by context, MB (whole pages of 256 tokens)\n";
  out += by_context(inspection, nullptr, [](const MemoryPlan& plan) { return megabytes(plan.kv); });
  const MemoryPlan& plan = inspection.plans.front().front();
  out += fmt::format("\nall memory by context, GB: weights {} GB mapped, keys and values, f32 state, working memory\n",
                     gigabytes(inspection.weight_bytes));
  out += by_context(inspection, "largest that fits", [](const MemoryPlan& at) {
    const char* mark = at.verdict == Verdict::fits ? " " : at.verdict == Verdict::weights_spill ? "~" : "!";
    return fmt::format("{:.2f}{}", static_cast<double>(at.total()) / 1e9, mark);
  });
  if (plan.available == 0) {
    out += "  this system does not tell how much memory is available\n";
  } else {
    out += fmt::format("  {} GB are free; ~ runs, but reads weights from the disk again; ! does not fit\n",
                       gigabytes(plan.available));
  }
  return out;
}

Json json_of(const CacheBytes& bytes) {
  return {{"kv_used", bytes.kv_used},      {"kv_allocated", bytes.kv_allocated},
          {"recurrent", bytes.recurrent},  {"convolution", bytes.convolution},
          {"state", bytes.state()},        {"used", bytes.used()},
          {"allocated", bytes.allocated()}};
}

Json json_of(const ModelConfig& c) {
  Json out = {{"model_type", c.model_type},
              {"layers", c.num_layers()},
              {"attention_layers", c.attention_layers()},
              {"linear_layers", c.linear_layers()},
              {"hidden_size", c.hidden_size},
              {"vocab_size", c.vocab_size},
              {"tie_word_embeddings", c.tie_word_embeddings},
              {"max_position_embeddings", c.max_position_embeddings},
              {"num_attention_heads", c.num_attention_heads},
              {"num_key_value_heads", c.num_key_value_heads},
              {"head_dim", c.head_dim},
              {"rotary_dim", c.rotary_dim},
              {"linear_num_key_heads", c.linear_num_key_heads},
              {"linear_num_value_heads", c.linear_num_value_heads},
              {"linear_key_head_dim", c.linear_key_head_dim},
              {"linear_value_head_dim", c.linear_value_head_dim},
              {"linear_conv_kernel_dim", c.linear_conv_kernel_dim},
              {"num_experts", c.num_experts},
              {"num_experts_per_tok", c.num_experts_per_tok},
              {"moe_intermediate_size", c.moe_intermediate_size},
              {"shared_expert_intermediate_size", c.shared_expert_intermediate_size},
              {"intermediate_size", c.intermediate_size},
              {"quantization", quantization_text(c)}};
  if (c.yarn)
    out["yarn"] = {{"factor", c.yarn->factor},
                   {"original_max_position_embeddings", c.yarn->original_context},
                   {"beta_fast", c.yarn->beta_fast},
                   {"beta_slow", c.yarn->beta_slow},
                   {"attention_factor", c.yarn->attention_factor}};
  return out;
}

Json json_of(const MemoryPlan& plan) {
  return {{"context", plan.context},
          {"kv_used", plan.kv_per_token * static_cast<std::uint64_t>(plan.context)},
          {"kv_allocated", plan.kv},
          {"recurrent", plan.recurrent},
          {"convolution", plan.convolution},
          {"working_memory", plan.scratch},
          {"vocabulary", plan.vocabulary},
          {"anonymous", plan.anonymous()},
          {"total", plan.total()},
          {"verdict", verdict_name(plan.verdict)},
          {"disk_bytes_per_token", plan.disk_per_token}};
}

}  // namespace

std::string to_text(const Inspection& inspection) {
  return architecture_text(inspection) + "\n" + weights_text(inspection) + "\n" + formats_text(inspection) + "\n" +
         stored_text(inspection) + "\n" + plans_text(inspection);
}

std::string to_json(const Inspection& inspection) {
  Json weights = Json::array();
  for (const WeightKind& kind : inspection.weights) {
    weights.push_back({{"kind", kind.kind}, {"tensors", kind.tensors}, {"bytes", kind.bytes}});
  }
  Json formats = Json::array();
  for (std::size_t i = 0; i < inspection.formats.size(); ++i) {
    Json plans = Json::array();
    for (const MemoryPlan& plan : inspection.plans[i]) plans.push_back(json_of(plan));
    formats.push_back({{"backend", name(inspection.formats[i].format.backend)},
                       {"label", inspection.formats[i].label},
                       {"format", inspection.formats[i].format.canonical()},
                       {"k", inspection.formats[i].format.k.describe()},
                       {"v", inspection.formats[i].format.v.describe()},
                       {"bytes_per_token", inspection.bytes_per_token[i]},
                       {"bits_per_value", bits_per_value(inspection.config, inspection.bytes_per_token[i])},
                       {"largest_context", inspection.plans[i].front().largest_context},
                       {"contexts", std::move(plans)}});
  }
  Json stored = Json::array();
  for (const StoredCache& cache : inspection.stored) {
    stored.push_back({{"label", cache.label},
                      {"prompt_tokens", cache.prompt},
                      {"generation_tokens", cache.generation},
                      {"stored_tokens", cache.tokens},
                      {"bf16_state", json_of(cache.bf16_state)},
                      {"f32_state", json_of(cache.f32_state)}});
  }
  const Json json = {{"schema", 1},
                     {"kind", "inspection"},
                     {"tool", {{"name", "tqkv"}, {"version", version}}},
                     {"model", inspection.model},
                     {"architecture", json_of(inspection.config)},
                     {"weights_from", inspection.with_weights ? "files" : "config"},
                     {"weights", std::move(weights)},
                     {"weight_bytes", inspection.weight_bytes},
                     {"missing_tensors", inspection.missing},
                     {"state_bf16", json_of(inspection.state_bf16)},
                     {"state_f32", json_of(inspection.state_f32)},
                     {"available", inspection.plans.front().front().available},
                     {"formats", std::move(formats)},
                     {"stored", std::move(stored)}};
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace tqkv::measure
