#include "runtime/cpu/device.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "base/processor.h"
#include "base/thread_pool.h"
#include "runtime/cpu/engine.h"
#include "runtime/cpu/layer_attention.h"
#include "runtime/cpu/scratch.h"
#include "tqkv/error.h"

namespace tqkv::cpu {
namespace {

constexpr std::array<std::string_view, 4> instruction_sets = {"avx512", "avx2", "neon", "portable"};
constexpr int most_threads = 1024;

std::string problem_of_isa(std::string_view value) {
  if (std::find(instruction_sets.begin(), instruction_sets.end(), value) != instruction_sets.end()) return {};
  return fmt::format("isa is one of {}", fmt::join(instruction_sets, ", "));
}

std::optional<int> thread_count(std::string_view value) {
  int count = 0;
  const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), count);
  if (code != std::errc{} || end != value.data() + value.size() || count < 1 || count > most_threads)
    return std::nullopt;
  return count;
}

std::string problem_of_threads(std::string_view value) {
  return thread_count(value) ? std::string() : fmt::format("threads is a number from 1 to {}", most_threads);
}

constexpr std::array<DeviceKey, 2> keys = {{{"isa", true, problem_of_isa}, {"threads", false, problem_of_threads}}};

std::unique_ptr<Engine> load(Checkpoint checkpoint, const DeviceOptions& options) {
  return std::make_unique<CpuEngine>(std::move(checkpoint), options);
}

std::uint64_t working_memory(const ModelConfig& config, const DeviceOptions& options, const PassSize& size) {
  const std::uint64_t all_rows =
      size.every_row ? std::uint64_t{logit_rows} * static_cast<std::uint64_t>(config.vocab_size) * sizeof(float) : 0;
  return all_rows +
         scratch_bytes(config, {options.precision, size.rows, 1, size.context, threads_of(options.device), size.vector},
                       kernels_of(options.device));
}

std::unique_ptr<LayerAttention> attention(const LayerShape& shape, const KvFormat& format, int layer, int index,
                                          int count, const DeviceOptions& options) {
  return std::make_unique<CpuLayerAttention>(shape, format, layer, index, count, options);
}

DeviceReport report(const DeviceOptions& options) {
  Device device = options.device;
  device.keys["isa"] = kernels_of(device).isa;
  device.keys["threads"] = std::to_string(threads_of(device));
  return {std::move(device), options.precision, {{"cpu", processor_name()}}};
}

std::vector<std::pair<std::string, std::string>> facts() {
  return {{"instruction sets", fmt::format("{}", fmt::join(available_isas(), ", "))}};
}

}  // namespace

const DeviceKind& device_kind() {
  static const DeviceKind kind = {.name = "cpu",
                                  .keys = keys,
                                  .missing = [] { return std::string(); },
                                  .load = load,
                                  .report = report,
                                  .facts = facts,
                                  .working_memory = working_memory,
                                  .attention = attention};
  return kind;
}

const Kernels& kernels_of(const Device& device) {
  return kernels(device.value("isa"));
}

int threads_of(const Device& device) {
  return thread_count(device.value("threads")).value_or(available_cores());
}

}  // namespace tqkv::cpu
