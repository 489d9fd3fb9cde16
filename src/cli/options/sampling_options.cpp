#include "cli/options/sampling_options.h"

#include <limits>
#include <random>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/utf8.h"
#include "cli/options/number_checks.h"

namespace tqkv::cli {

namespace {

constexpr const char* sampling_group = "Sampling";

}  // namespace

void add_sampling_options(CLI::App& command, SamplingOptions& options) {
  const auto add = [&](const char* flag, auto& target, const char* type, const char* help) {
    CLI::Option* option = command.add_option(flag, target, help)->type_name(type)->group(sampling_group);
    using Number = typename std::decay_t<decltype(target)>::value_type;
    if constexpr (std::is_floating_point_v<Number>)
      option->transform(real_number());
    else
      option->transform(whole_number(std::is_signed_v<Number> ? std::numeric_limits<int>::min() : 0,
                                     std::uint64_t{std::numeric_limits<Number>::max()}));
    return option;
  };
  CLI::Option* greedy =
      command.add_flag("--greedy", options.greedy, "Always pick the most likely token")->group(sampling_group);
  add("--temperature", options.temperature, "T", "0 is greedy")->excludes(greedy);
  add("--top-p", options.top_p, "P", "Sample from the most likely tokens that add up to P; 1 is off")->excludes(greedy);
  add("--top-k", options.top_k, "K", "Sample from the K most likely tokens; 0 is off")->excludes(greedy);
  add("--min-p", options.min_p, "P", "Drop tokens less likely than P times the most likely one; 0 is off")
      ->excludes(greedy);
  add("--repetition-penalty", options.repetition_penalty, "X", "Make tokens that were seen less likely; 1 is off");
  add("--presence-penalty", options.presence_penalty, "X", "Lower the score of tokens that were generated; 0 is off");
  add("--frequency-penalty", options.frequency_penalty, "X",
      "Lower the score of a token each time it is generated; 0 is off");
  add("--seed", options.seed, "N", "Repeat a run (default: a new seed, shown by --stats)");
  command.add_option("--stop", options.stop, "End the answer before this text; may be given several times")
      ->type_name("TEXT")
      ->allow_extra_args(false)
      ->check([](const std::string& text) -> std::string {
        if (text.empty()) return "it is empty: give some text";
        return valid_utf8(text) ? "" : "it is not UTF-8";
      })
      ->group(sampling_group);
}

Sampling combine(Sampling sampling, const SamplingOptions& options) {
  if (options.temperature || options.top_p || options.top_k || options.min_p) sampling.greedy = false;
  if (options.greedy) sampling.greedy = true;
  sampling.temperature = options.temperature.value_or(sampling.temperature);
  sampling.top_p = options.top_p.value_or(sampling.top_p);
  sampling.top_k = options.top_k.value_or(sampling.top_k);
  sampling.min_p = options.min_p.value_or(sampling.min_p);
  sampling.repetition_penalty = options.repetition_penalty.value_or(sampling.repetition_penalty);
  sampling.presence_penalty = options.presence_penalty.value_or(sampling.presence_penalty);
  sampling.frequency_penalty = options.frequency_penalty.value_or(sampling.frequency_penalty);
  if (options.seed)
    sampling.seed = *options.seed;
  else
    sampling.seed = std::random_device{}();
  return sampling;
}

Sampling combine(const GenerationDefaults& defaults, const SamplingOptions& options) {
  std::vector<std::string_view> replaced;
  const auto given = [&](bool is, std::string_view key) {
    if (is || (options.greedy && key.find("penalty") == key.npos)) replaced.push_back(key);
  };
  given(options.temperature.has_value(), "temperature");
  given(options.top_p.has_value(), "top_p");
  given(options.top_k.has_value(), "top_k");
  given(options.min_p.has_value(), "min_p");
  given(options.temperature || options.top_p || options.top_k || options.min_p, "do_sample");
  given(options.repetition_penalty.has_value(), "repetition_penalty");
  given(options.presence_penalty.has_value(), "presence_penalty");
  given(options.frequency_penalty.has_value(), "frequency_penalty");
  require_sound(defaults, replaced);
  const Sampling sampling = combine(defaults.sampling, options);
  check(sampling);
  return sampling;
}

}  // namespace tqkv::cli
