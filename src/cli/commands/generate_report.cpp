#include "cli/commands/generate_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "base/numbers.h"
#include "cli/session/loading.h"
#include "tqkv/version.h"

namespace tqkv::cli {
namespace {

using json = nlohmann::ordered_json;

std::string rate(const std::optional<double>& value) {
  return value ? fmt::format("{:.1f} tokens/s", *value) : "no rate";
}

std::string megabytes(std::uint64_t bytes) {
  return fmt::format("{:.2f} MB", static_cast<double>(bytes) / 1e6);
}

std::string sampling_text(const Sampling& sampling) {
  std::string text = sampling.is_greedy() ? "greedy" : fmt::format("temperature {}", sampling.temperature);
  if (!sampling.is_greedy()) {
    if (sampling.top_p < 1.0f) text += fmt::format(", top-p {}", sampling.top_p);
    if (sampling.top_k > 0) text += fmt::format(", top-k {}", sampling.top_k);
    if (sampling.min_p > 0.0f) text += fmt::format(", min-p {}", sampling.min_p);
  }
  if (sampling.repetition_penalty != 1.0f) text += fmt::format(", repetition penalty {}", sampling.repetition_penalty);
  if (sampling.presence_penalty != 0.0f) text += fmt::format(", presence penalty {}", sampling.presence_penalty);
  if (sampling.frequency_penalty != 0.0f) text += fmt::format(", frequency penalty {}", sampling.frequency_penalty);
  if (!sampling.is_greedy()) text += fmt::format(", seed {}", sampling.seed);
  return text;
}

std::string count(int number) {
  return grouped(static_cast<std::uint64_t>(number));
}

json optional(const std::optional<double>& value) {
  return value ? json(*value) : json();
}

double gigabytes(std::uint64_t bytes) {
  return static_cast<double>(bytes) / 1e9;
}

/// The decimal number that a float was given as, and not its neighbour in f64.
json decimal(float value) {
  return json::parse(fmt::format("{}", value));
}

json sampling_json(const Sampling& sampling) {
  return {{"greedy", sampling.is_greedy()},
          {"temperature", decimal(sampling.temperature)},
          {"top_p", decimal(sampling.top_p)},
          {"top_k", sampling.top_k},
          {"min_p", decimal(sampling.min_p)},
          {"repetition_penalty", decimal(sampling.repetition_penalty)},
          {"presence_penalty", decimal(sampling.presence_penalty)},
          {"frequency_penalty", decimal(sampling.frequency_penalty)},
          {"seed", sampling.is_greedy() ? json() : json(sampling.seed)}};
}

json device_json(const DeviceReport& device) {
  json object = {{"device", device.device.canonical()}, {"precision", name(device.precision)}};
  for (const auto& [name, value] : device.values) object[name] = value;
  if (!device.steps.empty()) object["steps"] = device.steps;
  if (!device.warning.empty()) object["warning"] = device.warning;
  return object;
}

}  // namespace

std::string statistics_text(const GenerateReport& report) {
  const GenerateResult& result = *report.result;
  const GenerateStatistics& statistics = result.statistics;
  const CacheBytes& bytes = result.cache.bytes;
  std::string text;
  const auto line = [&](const char* title, const std::string& value) {
    text += fmt::format("  {:<12}{}\n", title, value);
  };
  text += "statistics\n";
  if (report.restored > 0) line("restored", fmt::format("{} tokens", count(report.restored)));
  line("prompt",
       fmt::format("{} tokens, {}{}", count(statistics.prompt_tokens), rate(statistics.prompt_tps),
                   statistics.time_to_first_token
                       ? fmt::format(", first token after {:.3f} s, {:.3f} s from the program's start",
                                     *statistics.time_to_first_token, report.startup + *statistics.time_to_first_token)
                       : ""));
  line("generation", fmt::format("{} tokens, {}, ended by {}", count(statistics.generated_tokens),
                                 rate(statistics.generation_tps), name(result.reason)));
  line("wall time", fmt::format("{:.3f} s", statistics.wall));
  line("sampling", sampling_text(report.sampling));
  line("cache", fmt::format("{} of {} tokens, {} used, {} allocated", count(result.cache.tokens), count(report.context),
                            megabytes(bytes.used()), megabytes(bytes.allocated())));
  line("  KV", fmt::format("{} B used, {} B allocated", grouped(bytes.kv_used), grouped(bytes.kv_allocated)));
  line("  state", fmt::format("{} B recurrent ({}), {} B convolution", grouped(bytes.recurrent),
                              name(result.cache.state), grouped(bytes.convolution)));
  line("format", describe_cache(result.cache) + describe_plain(result.cache));
  std::vector<std::string> activations;
  for (const auto& [product, bits] : result.cache.activation_bits)
    activations.push_back(fmt::format("{} bits for {}", bits, product));
  if (!activations.empty()) line("activations", fmt::format("{}, at prefill", fmt::join(activations, ", ")));
  line("memory", fmt::format("{} at most: {} of weights, mapped, and {} anonymous, of {} planned",
                             megabytes(report.weights + statistics.peak_anonymous), megabytes(report.weights),
                             megabytes(statistics.peak_anonymous), megabytes(report.planned)));
  line("page faults", fmt::format("{} that waited for the disk", grouped(statistics.major_faults)));
  line("device", fmt::format("{}, {} precision", report.device.text(), name(report.device.precision)));
  if (!report.device.steps.empty()) line("steps", report.device.steps);
  return text;
}

std::string report_json(const GenerateReport& report, const std::optional<std::string>& tools) {
  const GenerateResult& result = *report.result;
  const GenerateStatistics& statistics = result.statistics;
  const CacheBytes& bytes = result.cache.bytes;
  json layers = json::array();
  for (const LayerCache& layer : result.cache.layers)
    layers.push_back({{"layer", layer.layer}, {"k", layer.k.describe()}, {"v", layer.v.describe()}});
  json activation_bits = json::object();
  for (const auto& [product, bits] : result.cache.activation_bits) activation_bits[product] = bits;
  const ParsedAnswer answer = tools ? parse_tool_calls(result.answer, *tools) : ParsedAnswer{result.answer, {}};
  json calls = json::array();
  for (const ParsedToolCall& call : answer.calls)
    calls.push_back({{"name", call.name}, {"arguments", json::parse(call.arguments)}});
  const bool calls_tools = !calls.empty() && result.reason == FinishReason::stop;
  const json object = {{"tool", {{"version", version}}},
                       {"model", report.model},
                       {"answer", answer.content},
                       {"tool_calls", calls},
                       {"thinking", result.thinking},
                       {"ended_thinking", result.ended_thinking},
                       {"finish_reason", calls_tools ? "tool_calls" : name(result.reason)},
                       {"stop_string", result.stop_string.empty() ? json() : json(result.stop_string)},
                       {"restored_tokens", report.restored},
                       {"prompt_tokens", statistics.prompt_tokens},
                       {"generated_tokens", statistics.generated_tokens},
                       {"ids", result.ids},
                       {"backend", name(result.cache.format.backend)},
                       {"format", result.cache.format.canonical()},
                       {"layers", layers},
                       {"activation_bits", activation_bits},
                       {"sampling", sampling_json(report.sampling)},
                       {"statistics",
                        {{"prompt_tps", optional(statistics.prompt_tps)},
                         {"generation_tps", optional(statistics.generation_tps)},
                         {"time_to_first_token_s", optional(statistics.time_to_first_token)},
                         {"startup_s", report.startup},
                         {"wall_s", statistics.wall},
                         {"peak_memory_gb", gigabytes(report.weights + statistics.peak_anonymous)},
                         {"weights_gb", gigabytes(report.weights)},
                         {"peak_anonymous_gb", gigabytes(statistics.peak_anonymous)},
                         {"planned_anonymous_gb", gigabytes(report.planned)},
                         {"major_faults", statistics.major_faults}}},
                       {"cache",
                        {{"tokens", result.cache.tokens},
                         {"context", report.context},
                         {"kv_used", bytes.kv_used},
                         {"kv_allocated", bytes.kv_allocated},
                         {"recurrent", bytes.recurrent},
                         {"convolution", bytes.convolution},
                         {"state_type", name(result.cache.state)},
                         {"used", bytes.used()},
                         {"allocated", bytes.allocated()}}},
                       {"device", device_json(report.device)}};
  return object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace tqkv::cli
