// Benchmark: what each cache format costs in time and memory, and what it does to the model's choices. Implemented in
// src/measure; docs/measuring.md defines every figure.
//
// All formats run on the same ids. Decode is teacher-forced: the ids are given, so that every format does the same
// work.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "measure/files/measured.h"
#include "measure/files/speed.h"
#include "tqkv/engine.h"
#include "tqkv/kv_format.h"
#include "tqkv/memory_plan.h"
#include "tqkv/model_config.h"
#include "tqkv/tokenizer.h"

namespace tqkv::measure {

struct BenchmarkOptions {
  std::vector<KvFormat> formats;               ///< as asked; no format twice
  std::vector<int> prompt_tokens = {2048};     ///< P, each at least 1
  std::vector<int> generation_tokens = {128};  ///< G, each at least 1; every P runs with every G
  std::vector<int> depths = {0};               ///< tokens in the cache before the prompt
  int trials = 5;
  bool check = false;  ///< KL against baseline with a single format too
  StateType state = StateType::f32;
  int prefill_chunk = 2048;
  int context = 0;                                 ///< of every session; 0: what depth, P and G need
  std::string model;                               ///< name for the report
  std::string ids;                                 ///< where the ids come from: "random, seed 0"
  std::function<void(std::string_view)> progress;  ///< called with one line before each part
};

struct BenchmarkReport : Measured {
  StateType state = StateType::f32;
  int prefill_chunk = 0;
  std::string ids;
  std::vector<BenchmarkRun> runs;  ///< by depth, P, G, then format as asked
};

/// Ids that the benchmark needs: the longest of depth + P + G - 1. Throws Error(usage) for options that make no sense.
int ids_needed(const BenchmarkOptions& options);
/// `count` ids drawn uniformly, by seed and position alone, from the ids below `vocab_size` that have a token.
std::vector<int> random_ids(const Tokenizer& tokenizer, int vocab_size, std::uint64_t seed, int count);

/// The memory plan of each format with the sessions that are open at the same time; before anything is loaded.
std::vector<MemoryPlan> plan_benchmark(const ModelConfig& config, std::uint64_t weight_bytes,
                                       const DeviceOptions& device, const BenchmarkOptions& options);
/// Throws Error(usage) for options that make no sense, Error(input) when there are fewer than ids_needed() ids.
BenchmarkReport run_benchmark(const Engine& engine, std::span<const int> ids, const BenchmarkOptions& options);

/// Many sessions in one step (Engine::step): tokens per second of all of them together.
struct SessionsOptions {
  std::vector<KvFormat> formats;                 ///< no format twice
  std::vector<int> sessions = {1, 2, 4, 8, 16};  ///< how many decode together
  int depth = 256;                               ///< tokens of each before the first step
  int steps = 32;                                ///< timed, one token for each session
  int trials = 5;                                ///< rounds; each runs every number of sessions
  StateType state = StateType::f32;
  int prefill_chunk = 2048;
  std::string model, ids;                          ///< names for the report
  std::function<void(std::string_view)> progress;  ///< called with one line before each part
};

struct SessionsReport : Measured {
  StateType state = StateType::f32;
  int prefill_chunk = 0, depth = 0, steps = 0;
  std::string ids;
  std::vector<SessionsRun> runs;  ///< by format as asked, then by sessions upward
};

/// Ids that run_sessions() needs: every session has its own. Throws Error(usage) for options that make no sense.
int ids_needed(const SessionsOptions& options);
/// The memory plan of each format with all sessions open.
std::vector<MemoryPlan> plan_sessions(const ModelConfig& config, std::uint64_t weight_bytes,
                                      const DeviceOptions& device, const SessionsOptions& options);
SessionsReport run_sessions(const Engine& engine, std::span<const int> ids, const SessionsOptions& options);
std::string to_json(const SessionsReport& report);   ///< schema 1
std::string to_table(const SessionsReport& report);  ///< for a terminal of 110 columns

std::string to_json(const BenchmarkReport& report);   ///< schema 1
std::string to_table(const BenchmarkReport& report);  ///< for a terminal of 110 columns

/// Side by side: runs of several files written by to_json.
struct BenchmarkFile {
  std::string name, text;
};
struct Comparison {
  std::string table, json;
};
/// Throws Error(input), naming the file, for one that is no such JSON, and for files whose models, machines, settings,
/// ids or lengths differ.
Comparison compare(std::span<const BenchmarkFile> files);

}  // namespace tqkv::measure
