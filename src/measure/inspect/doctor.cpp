#include "measure/inspect/doctor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/memory_info.h"
#include "base/numbers.h"
#include "base/processor.h"
#include "base/stopwatch.h"
#include "base/thread_pool.h"
#include "cache/accounting.h"
#include "runtime/devices.h"
#include "tqkv/error.h"
#include "tqkv/version.h"

namespace tqkv::measure {
namespace {

constexpr std::uint64_t weights_35b = 19'499'000'000;  // of the text model in 4 bits, bytes
constexpr int shown_tokens[] = {2048, 32'768, 131'072};

/// The shape whose caches are shown: Qwen3.5-35B-A3B.
ModelConfig shape_35b() {
  ModelConfig config;
  for (int layer = 0; layer < 40; ++layer)
    config.layers.push_back(layer % 4 == 3 ? LayerKind::full_attention : LayerKind::linear_attention);
  config.num_attention_heads = 16;
  config.num_key_value_heads = 2;
  config.head_dim = 256;
  config.linear_num_key_heads = 16;
  config.linear_num_value_heads = 32;
  config.linear_key_head_dim = config.linear_value_head_dim = 128;
  config.linear_conv_kernel_dim = 4;
  return config;
}

// The best of a few passes over a buffer that no cache holds.
double measured_read(int cores, std::uint64_t available) {
  const std::size_t words = std::min<std::uint64_t>(256'000'000, available / 8) / sizeof(std::uint64_t);
  if (words < 1'000'000) return 0;
  std::vector<std::uint64_t> buffer(words, 1);
  std::vector<std::uint64_t> sums(static_cast<std::size_t>(cores));
  ThreadPool pool(cores);
  double best = 0;
  for (int pass = 0; pass < 3; ++pass) {
    const Stopwatch watch;
    pool.run(cores, [&](int part, int) {
      const std::size_t first = words * static_cast<std::size_t>(part) / static_cast<std::size_t>(cores),
                        last = words * static_cast<std::size_t>(part + 1) / static_cast<std::size_t>(cores);
      sums[static_cast<std::size_t>(part)] +=
          std::accumulate(buffer.begin() + static_cast<std::ptrdiff_t>(first),
                          buffer.begin() + static_cast<std::ptrdiff_t>(last), std::uint64_t{0});
    });
    best = std::max(best, static_cast<double>(words * sizeof(std::uint64_t)) / 1e9 / watch.seconds());
  }
  return sums[0] == 0 ? 0 : best;
}

DeviceFinding finding_of(const DeviceKind& kind) {
  DeviceFinding finding;
  finding.name = kind.name;
  finding.missing = kind.missing();
  if (!finding.missing.empty()) return finding;
  DeviceOptions options;
  options.device.name = kind.name;
  const DeviceReport report = kind.report(options);
  finding.device = report.device.canonical();
  finding.facts = report.values;
  finding.facts.emplace_back("precision", name(report.precision));
  if (kind.facts) {
    for (auto& fact : kind.facts()) finding.facts.push_back(std::move(fact));
  }
  return finding;
}

void add_warnings(Diagnosis& diagnosis) {
  const auto warn = [&](std::string problem, std::string remedy) {
    diagnosis.warnings.push_back({std::move(problem), std::move(remedy)});
  };
  if (diagnosis.available > 0 && diagnosis.available < weights_35b + 1'000'000'000)
    warn(fmt::format("{} of memory are free, and Qwen3.5-35B-A3B in 4 bits needs about 21 GB",
                     short_bytes(static_cast<double>(diagnosis.available))),
         "end other programs, or take a smaller model: `tqkv inspect MODEL` says what fits");
  for (const DeviceFinding& finding : diagnosis.devices) {
    if (finding.device.find("isa=portable") != std::string::npos)
      warn("the processor has none of the instruction sets that the fast kernels need",
           "it works, several times slower; AVX2, AVX-512 and NEON have kernels of their own");
  }
}

}  // namespace

Diagnosis diagnose() {
  Diagnosis diagnosis;
  diagnosis.processor = processor_name();
  diagnosis.cores = available_cores();
  diagnosis.memory = total_memory();
  diagnosis.available = available_memory();
  diagnosis.read_gb_s = measured_read(diagnosis.cores, diagnosis.available);
  for (const DeviceKind* kind : device_kinds()) diagnosis.devices.push_back(finding_of(*kind));
  const ModelConfig shape = shape_35b();
  for (const int tokens : shown_tokens) {
    auto& row = diagnosis.caches.emplace_back(tokens, std::vector<std::pair<std::string, std::uint64_t>>());
    for (const char* text : {"baseline", "mlx_quant", "turboquant", "default"}) {
      const KvFormat format = std::strcmp(text, "default") == 0 ? KvFormat::usual() : KvFormat::parse(text);
      row.second.emplace_back(text, cache::cache_bytes(shape, format, tokens, StateType::f32).kv_used);
    }
  }
  add_warnings(diagnosis);
  return diagnosis;
}

std::string to_text(const Diagnosis& diagnosis) {
  std::string out;
  const auto line = [&](std::string_view what, const std::string& value) {
    out += fmt::format("{:<13} {}\n", what, value);
  };
  line("tqkv", std::string(version));
  line("processor", fmt::format("{}, {} core{} for this process", diagnosis.processor, diagnosis.cores,
                                diagnosis.cores == 1 ? "" : "s"));
  line("memory", fmt::format("{}, {} free", short_bytes(static_cast<double>(diagnosis.memory)),
                             short_bytes(static_cast<double>(diagnosis.available))));
  if (diagnosis.read_gb_s > 0)
    line("bandwidth", fmt::format("{:.1f} GB/s reading memory with all cores", diagnosis.read_gb_s));
  out += "\n";
  for (const DeviceFinding& finding : diagnosis.devices) {
    if (!finding.missing.empty()) {
      line("device " + finding.name, "not usable: " + finding.missing);
      continue;
    }
    line("device " + finding.name, finding.device);
    for (const auto& [what, value] : finding.facts) line("", fmt::format("{}: {}", what, value));
  }
  out += "\nKeys and values of Qwen3.5-35B-A3B:\n";
  for (const auto& [tokens, formats] : diagnosis.caches) {
    std::string row;
    for (const auto& [format, bytes] : formats)
      row += fmt::format("{}{} {}", row.empty() ? "" : ", ", format, short_bytes(static_cast<double>(bytes)));
    line(fmt::format("{:>7}", grouped(tokens)), row);
  }
  for (const Warning& warning : diagnosis.warnings)
    out += fmt::format("\nwarning: {}\n         {}\n", warning.problem, warning.remedy);
  return out;
}

std::string to_json(const Diagnosis& diagnosis) {
  using Json = nlohmann::ordered_json;
  Json devices = Json::array(), caches = Json::array(), warnings = Json::array();
  for (const DeviceFinding& finding : diagnosis.devices) {
    Json facts = Json::object();
    for (const auto& [what, value] : finding.facts) facts[what] = value;
    devices.push_back({{"name", finding.name},
                       {"usable", finding.missing.empty()},
                       {"missing", finding.missing.empty() ? Json(nullptr) : Json(finding.missing)},
                       {"device", finding.missing.empty() ? Json(finding.device) : Json(nullptr)},
                       {"facts", facts}});
  }
  for (const auto& [tokens, formats] : diagnosis.caches) {
    Json bytes = Json::object();
    for (const auto& [format, count] : formats) bytes[format] = count;
    caches.push_back({{"tokens", tokens}, {"kv_bytes", bytes}});
  }
  for (const Warning& warning : diagnosis.warnings)
    warnings.push_back({{"problem", warning.problem}, {"remedy", warning.remedy}});
  const Json json = {{"schema", 1},
                     {"kind", "diagnosis"},
                     {"tool", {{"name", "tqkv"}, {"version", version}}},
                     {"processor", diagnosis.processor},
                     {"cores", diagnosis.cores},
                     {"memory", diagnosis.memory},
                     {"available", diagnosis.available},
                     {"read_gb_s", diagnosis.read_gb_s},
                     {"devices", devices},
                     {"caches", caches},
                     {"warnings", warnings}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tqkv::measure
