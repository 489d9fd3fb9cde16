// How ids are chosen: the options of generate and chat.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tqkv/sampling.h"

namespace tqkv::cli {

inline constexpr int default_max_tokens = 4096;  ///< tokens of an answer, thinking included

struct SamplingOptions {
  bool greedy = false;
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int> top_k;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> stop;  // strings that end the answer
};

void add_sampling_options(CLI::App& command, SamplingOptions& options);

/// The same for what generation_config.json asks for. Throws Error(config) for a value there that cannot be used and
/// that no option replaces, and Error(usage) as check() does.
Sampling combine(const GenerationDefaults& defaults, const SamplingOptions& options);

/// The checkpoint's sampling with what was asked for on top. Asking how to sample turns sampling on.
Sampling combine(Sampling sampling, const SamplingOptions& options);

}  // namespace tqkv::cli
