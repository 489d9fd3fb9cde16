// The figures of benchmarks and of their comparison, as their files hold them. docs/measuring.md defines each.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cache/layers_text.h"
#include "measure/figures/statistics.h"
#include "tqkv/cache_report.h"

namespace tqkv::measure {

/// Prompt of P tokens, then G generated ones, behind `depth` tokens.
struct Lengths {
  int prompt_tokens = 0, generation_tokens = 0, depth = 0;
  bool operator==(const Lengths&) const = default;
  int context() const { return depth + prompt_tokens + generation_tokens; }
  int fed() const { return context() - 1; }  ///< the last token is chosen but not fed
  /// Whether G is enough to measure decode.
  bool decode_figure() const { return generation_tokens >= 128; }
};

/// One timed pass: prefill of P ids, then G - 1 decode steps. The last id is chosen but not fed.
struct Trial {
  int order = 0;                             ///< place among the formats of its round, from 0
  double prompt_s = 0;                       ///< to the logits of the last prompt id
  double encode_s = 0;                       ///< of prompt_s: rotating, quantizing and packing keys and values
  double decode_s = 0;                       ///< of the G - 1 steps; sampling excluded
  double prompt_tps = 0;                     ///< P / prompt_s
  std::optional<double> generation_tps;      ///< (G - 1) / decode_s; nothing for G = 1
  std::optional<double> generation_tps_mlx;  ///< G / decode_s, as mlx-lm counts
  std::uint64_t weights = 0;                 ///< bytes of the text tensors
  std::uint64_t peak_anonymous = 0;          ///< bytes: largest RssAnon seen after a chunk or a step
  CacheBytes cache;                          ///< at the end
  std::string digest;                        ///< of the G most likely ids
  double gen_wall_s() const { return prompt_s + decode_s; }
  std::uint64_t peak_memory() const { return weights + peak_anonymous; }
};

/// Against baseline, over the G rows of logits of one pass on the same ids.
struct Quality {
  int rows = 0;
  double mean_kl = 0;   ///< nats, KL(baseline || this)
  double same_top = 0;  ///< fraction of rows with the same most likely id
};

/// Speeds by those of baseline.
struct SpeedRatios {
  bool paired = false;  ///< round by round; else from the medians of two runs
  Spread prompt_tps;
  std::optional<Spread> generation_tps;
};

struct BenchmarkRun {
  std::string format;  ///< effective: canonical string
  std::vector<cache::LayerText> layers;
  std::vector<std::pair<std::string, int>> activation_bits;  ///< CacheReport::activation_bits
  Lengths lengths;
  int open_sessions = 1;   ///< sessions that peak_anonymous includes: all of them where depths are kept
  std::string ids_digest;  ///< of the ids in the cache and those fed
  CacheBytes predicted;    ///< from shapes, for depth + P + G - 1 tokens
  std::optional<Quality> quality;
  Trial warmup;
  std::vector<Trial> trials;
  std::optional<SpeedRatios> ratios;  ///< nothing where baseline did not run

  bool baseline() const { return format.starts_with("baseline"); }
  /// Whether every trial took the bytes that were predicted.
  bool as_predicted() const;
  std::vector<double> prompt_tps() const;
  /// Empty for G = 1.
  std::vector<double> generation_tps() const;
  /// Bytes of the largest peak.
  std::uint64_t peak_anonymous() const;
};

struct BenchmarkFigures {
  std::vector<BenchmarkRun> runs;
};

/// `run` against `baseline`: paired where both have as many trials and ran in one file.
SpeedRatios ratios_of(const BenchmarkRun& run, const BenchmarkRun& baseline, bool one_file);

/// Medians of several files side by side.
struct ComparedRun {
  std::string format;  ///< effective: canonical string
  std::string file;
  int trials = 0;
  Spread prompt_tps;
  std::optional<Spread> generation_tps;
  std::uint64_t cache_bytes = 0, cache_bytes_used = 0;
  double peak_memory_gb = 0;
  std::optional<double> mean_kl, same_top;
  std::optional<SpeedRatios> ratios;
};
struct ComparedLengths {
  Lengths lengths;
  std::vector<ComparedRun> runs;
};
struct ComparisonFigures {
  std::vector<std::string> files;
  bool unpaired = false;  ///< some ratios are
  std::vector<ComparedLengths> lengths;
};

/// Several sessions in one step.
struct SessionsRun {
  std::string format;  ///< effective: canonical string
  int sessions = 0;
  std::vector<double> tps;              ///< of each round: tokens per second, all sessions together
  std::uint64_t bytes = 0;              ///< that a step reads and writes, as bytes_of_step() expects
  double bound = 1;                     ///< tokens per second against one session, if bytes were all that counts
  std::optional<Spread> ratio_to_one;   ///< nothing where one session was not asked for
  std::optional<double> share_of_gain;  ///< of what the bound allows beyond one session
};

}  // namespace tqkv::measure
