#include "measure/inspect/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/memory_info.h"
#include "cache/accounting.h"
#include "model/weights.h"
#include "runtime/devices.h"
#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

// Kinds in the order in which they first come.
void count(std::vector<WeightKind>& kinds, const std::string& kind, std::uint64_t bytes) {
  auto found = std::find_if(kinds.begin(), kinds.end(), [&](const WeightKind& known) { return known.kind == kind; });
  if (found == kinds.end()) found = kinds.insert(kinds.end(), WeightKind{kind, 0, 0});
  ++found->tensors;
  found->bytes += bytes;
}

void count_files(const Checkpoint& checkpoint, Inspection& inspection) {
  std::map<std::string, std::string, std::less<>> kinds;
  for (const ExpectedTensor& expected : expected_tensors(inspection.config)) {
    kinds[expected.name] = expected.kind;
    const Tensor* tensor = checkpoint.find(expected.name);
    if (tensor == nullptr) {
      inspection.missing.push_back(expected.name);
    } else {
      count(inspection.weights, expected.kind, tensor->bytes.size());
    }
  }
  for (const auto& [tensor_name, tensor] : checkpoint.tensors()) {
    if (!kinds.contains(tensor_name)) count(inspection.weights, "other", tensor.bytes.size());
  }
}

// Powers of two from 1024, ending with the native context.
std::vector<int> contexts_up_to(int native) {
  std::vector<int> contexts;
  for (std::int64_t context = 1024; context < native; context *= 2) contexts.push_back(static_cast<int>(context));
  contexts.push_back(native);
  return contexts;
}

}  // namespace

std::vector<NamedFormat> listed_formats() {
  std::vector<NamedFormat> formats;
  const auto add = [&](Backend backend, std::string_view bits) {
    formats.push_back(
        {fmt::format("{} {}", name(backend), bits), KvFormat::parse(fmt::format("{}:bits={}", name(backend), bits))});
  };
  formats.push_back({"baseline", KvFormat::of(Backend::baseline)});
  formats.push_back({"default", KvFormat::usual()});
  add(Backend::mlx_quant, "4");
  add(Backend::mlx_quant, "8");
  for (const char* bits : {"4", "3.5", "3", "2.5", "2"}) add(Backend::turboquant, bits);
  add(Backend::rotated_quant, "4");
  add(Backend::trellis, "4");
  add(Backend::turboquant_prod, "4");
  for (const Backend backend : {Backend::qjl, Backend::polarquant, Backend::sketch})
    formats.push_back({std::string(name(backend)), KvFormat::of(backend)});
  return formats;
}

Inspection inspect(const ModelConfig& config, const std::string& model, const Checkpoint* checkpoint,
                   const InspectOptions& options) {
  Inspection inspection;
  inspection.config = config;
  inspection.model = model;
  if (checkpoint != nullptr) {
    inspection.with_weights = true;
    count_files(*checkpoint, inspection);
  } else {
    inspection.weights = expected_weights(config);
  }
  for (const WeightKind& kind : inspection.weights) inspection.weight_bytes += kind.bytes;

  for (NamedFormat& listed : listed_formats()) {
    listed.format = cache::as_stored(listed.format, options.device.precision);
    try {
      check_format(kind_of(options.device.device), config, listed.format);
    } catch (const Error&) {
      continue;  // not for heads of this size, or not on this device
    }
    inspection.bytes_per_token.push_back(cache::bytes_per_token(config, listed.format));
    inspection.formats.push_back(std::move(listed));
  }
  const auto bytes = [&](const KvFormat& format, int tokens, StateType state) {
    return cache::cache_bytes(config, format, tokens, state, options.device.precision);
  };
  inspection.state_bf16 = bytes(inspection.formats.front().format, 0, StateType::bf16);
  inspection.state_f32 = bytes(inspection.formats.front().format, 0, StateType::f32);

  const int native = config.max_position_embeddings;
  const bool published = options.prompt_tokens.empty();
  for (const int prompt : published ? std::vector<int>{2048, 128} : options.prompt_tokens) {
    for (const int generation : options.generation_tokens) {
      if (published && prompt > native / 2) continue;
      if (prompt < 1 || generation < 1 || std::int64_t{prompt} + generation - 1 > native) {
        throw Error(ErrorKind::usage,
                    fmt::format("inspect: {} prompt and {} generated tokens: each must be at least 1, and "
                                "the context of the model is {} tokens",
                                prompt, generation, native));
      }
      const int tokens = prompt + generation - 1;
      for (const NamedFormat& listed : inspection.formats) {
        inspection.stored.push_back({prompt, generation, tokens, listed.label,
                                     bytes(listed.format, tokens, StateType::bf16),
                                     bytes(listed.format, tokens, StateType::f32)});
      }
    }
  }

  inspection.contexts = contexts_up_to(native);
  PlanRequest request{options.device, {0, options.prefill_chunk, StateType::f32}};
  request.available = options.available ? *options.available : available_memory();
  for (const NamedFormat& listed : inspection.formats) {
    std::vector<MemoryPlan>& row = inspection.plans.emplace_back();
    for (const int context : inspection.contexts) {
      request.session.context = context;
      row.push_back(plan_memory(config, inspection.weight_bytes, listed.format, request));
    }
  }
  return inspection;
}

}  // namespace tqkv::measure
