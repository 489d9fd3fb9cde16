// What the server says of itself, as JSON.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv::server {

struct ModelEntry {
  std::string id;
  std::int64_t created = 0;  ///< seconds of Unix time
  int context = 0;           ///< most tokens of a request
  std::string cache;         ///< the cache format
};

/// GET /v1/models, and one of them.
std::string models_text(const std::vector<ModelEntry>& models);
std::string model_text(const ModelEntry& model);

/// GET /health: "ok", "loading", "draining".
std::string health_text(std::string_view status);

/// A kind of memory: what the plan gives it and what is used, in bytes.
struct MemoryUse {
  std::string kind;
  std::uint64_t planned = 0, used = 0;
};
/// GET /plan: the kinds in their order and the sums. `limit`: bytes that the machine or the user gives; 0: unknown.
std::string plan_text(const std::vector<MemoryUse>& kinds, std::uint64_t limit);

/// POST /tokenize, /detokenize and /v1/messages/count_tokens.
std::string tokens_text(const std::vector<int>& ids);
std::string content_text(std::string_view content);
std::string count_text(int input_tokens);

}  // namespace tqkv::server
