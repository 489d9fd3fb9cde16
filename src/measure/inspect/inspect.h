// What `tqkv inspect` shows: an architecture, its weights, and what every cache format costs at every length.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tqkv/checkpoint.h"
#include "tqkv/device.h"
#include "tqkv/kv_format.h"
#include "tqkv/memory_plan.h"
#include "tqkv/model_config.h"

namespace tqkv::measure {

struct InspectOptions {
  std::vector<int> prompt_tokens;  // none: 2048 and 128, where the context of the model holds them
  std::vector<int> generation_tokens = {8};
  DeviceOptions device;
  int prefill_chunk = 2048;
  std::optional<std::uint64_t> available;  // instead of what the machine has free
};

/// A cache format under a short name: "turboquant 3.5".
struct NamedFormat {
  std::string label;
  KvFormat format;
};
/// Every backend with every number of bits that `inspect` lists.
std::vector<NamedFormat> listed_formats();

/// Cache of one format after `prompt` tokens of prompt and `generation` generated ones, of which the last is not
/// stored.
struct StoredCache {
  int prompt = 0, generation = 0, tokens = 0;
  std::string label;
  CacheBytes bf16_state, f32_state;
};

struct Inspection {
  ModelConfig config;
  std::string model;
  bool with_weights = false;  // counted in the files; else expected from the config
  std::vector<WeightKind> weights;
  std::vector<std::string> missing;  // tensors that the config expects and the files lack
  std::uint64_t weight_bytes = 0;
  std::vector<NamedFormat> formats;
  std::vector<std::uint64_t> bytes_per_token;  // of each format
  std::vector<StoredCache> stored;             // by length, then format
  std::vector<int> contexts;                   // 1024, 2048 … native
  std::vector<std::vector<MemoryPlan>> plans;  // [formats][contexts], state in f32
  CacheBytes state_bf16, state_f32;            // kv 0
};

/// `checkpoint` is null for a config alone. Throws Error(usage) for lengths out of range.
Inspection inspect(const ModelConfig& config, const std::string& model, const Checkpoint* checkpoint,
                   const InspectOptions& options);

std::string to_text(const Inspection& inspection);  // for a terminal of 110 columns
std::string to_json(const Inspection& inspection);

}  // namespace tqkv::measure
