#include "server/protocol/status_texts.h"

#include "server/protocol/json.h"

namespace tqkv::server {
namespace {

Json object_of(const ModelEntry& model) {
  // Clients ask for the context under several names; max_model_len is the usual one.
  return {{"id", model.id},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "tqkv"},
          {"max_model_len", model.context},
          {"tqkv", {{"context", model.context}, {"cache", model.cache}}}};
}

}  // namespace

std::string models_text(const std::vector<ModelEntry>& models) {
  Json list = Json::array();
  for (const ModelEntry& model : models) list.push_back(object_of(model));
  return print({{"object", "list"}, {"data", std::move(list)}});
}

std::string model_text(const ModelEntry& model) {
  return print(object_of(model));
}

std::string health_text(std::string_view status) {
  return print({{"status", status}});
}

std::string plan_text(const std::vector<MemoryUse>& kinds, std::uint64_t limit) {
  Json list = Json::array();
  std::uint64_t planned = 0, used = 0;
  for (const MemoryUse& kind : kinds) {
    list.push_back({{"kind", kind.kind}, {"planned", kind.planned}, {"used", kind.used}});
    planned += kind.planned;
    used += kind.used;
  }
  Json most = nullptr;
  if (limit > 0) most = limit;
  return print({{"limit", std::move(most)}, {"planned", planned}, {"used", used}, {"kinds", std::move(list)}});
}

std::string tokens_text(const std::vector<int>& ids) {
  return print({{"tokens", ids}});
}

std::string content_text(std::string_view content) {
  return print({{"content", content}});
}

std::string count_text(int input_tokens) {
  return print({{"input_tokens", input_tokens}});
}

}  // namespace tqkv::server
