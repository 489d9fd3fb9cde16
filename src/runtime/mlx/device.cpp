#include "runtime/mlx/device.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <variant>

#include "base/file.h"
#include "base/memory_info.h"
#include "base/processor.h"
#include "model/weights.h"
#include "runtime/mlx/codec.h"
#include "runtime/mlx/engine.h"
#include "runtime/mlx/kernels/kernels.h"
#include "runtime/mlx/mlx.h"
#include "runtime/mlx/self_test.h"
#include "runtime/mlx/thread.h"
#include "tqkv/error.h"

#if MLX_VERSION_NUMERIC != 32004
#error "this engine is written for MLX 0.32.4: run scripts/install-mlx"
#endif

namespace tqkv {
namespace mlx {
namespace {

constexpr std::string_view wanted = "0.32.4";
constexpr std::uint64_t library_bytes = 24'000'000;  // that MLX takes for itself, measured

std::string missing() {
  const std::string found = mx::version();
  if (found == wanted) return {};
  return "this program was built for MLX " + std::string(wanted) + ", and " + found +
         " is there: run scripts/install-mlx and build again";
}

std::unique_ptr<Engine> load(Checkpoint checkpoint, const DeviceOptions& options) {
  return std::make_unique<MlxEngine>(std::move(checkpoint), options);
}

std::string problem_of_kernels(std::string_view value) {
  if (value != "on" && value != "off") return fmt::format("kernels is '{}': it is on or off", value);
  return value == "on" && on_processor() ? "own kernels are for a GPU, and MLX has none here: leave kernels out" : "";
}

std::string problem_of_wired(std::string_view value) {
  if (value != "on" && value != "off") return fmt::format("wired is '{}': it is on or off", value);
  return value == "on" && on_processor() ? "wired is for a GPU, and MLX has none here: leave it out" : "";
}

constexpr std::array<DeviceKey, 2> keys = {{{"kernels", true, problem_of_kernels}, {"wired", false, problem_of_wired}}};

/// A number that MLX tells of the GPU; 0 where it does not.
std::uint64_t gpu_number(const std::string& name) {
  if (on_processor()) return 0;
  const auto& facts = mx::gpu::device_info(0);
  const auto found = facts.find(name);
  return found != facts.end() && std::holds_alternative<std::size_t>(found->second)
             ? std::get<std::size_t>(found->second)
             : 0;
}

// Above what macOS recommends, as much as leaves the system 4 GB.
std::string advice(std::uint64_t needed) {
  constexpr std::uint64_t for_system = 4'000'000'000;
  if (on_processor() || needed + for_system > total_memory()) return {};
  return fmt::format("let the GPU have more until the next start (sudo sysctl iogpu.wired_limit_mb={})",
                     needed / (1 << 20) + 1);
}

DeviceReport report(const DeviceOptions& options) {
  DeviceReport report{options.device, precision(options), {}};
  report.device.keys.try_emplace("kernels", on_processor() ? "off" : "on");
  report.device.keys.try_emplace("wired", "off");
  const std::string library = std::string("MLX ") + mx::version();
  if (on_processor())
    report.values = {{"cpu", processor_name()}, {"mlx", library + " on the processor, in float32"}};
  else
    report.values = {{"gpu", gpu_name()}, {"mlx", library + " on the GPU"}};
  return report;
}

std::uint64_t working_memory(const ModelConfig& config, const DeviceOptions&, const PassSize& size) {
  return pass_bytes(config, size) + library_bytes;
}

// In float32 what is bf16 in the checkpoint takes twice as much.
std::uint64_t weight_bytes(const ModelConfig& config, std::uint64_t file_bytes, const DeviceOptions& options) {
  if (precision(options) != Precision::f32) return file_bytes;
  for (const ExpectedTensor& tensor : expected_tensors(config))
    if (tensor.dtype == DType::bf16) file_bytes += tensor.bytes;
  return file_bytes;
}

DeviceMemory memory(const DeviceOptions&) {
  if (on_processor()) return {"memory for MLX", available_memory(), true};
  return {"GPU memory", working_set(), true, gpu_number("max_buffer_length"), advice};
}

// A matrix, a side of a layer's cache decoded for a prompt, or activations; the cache itself lies in segments.
std::uint64_t largest_array(const ModelConfig& config, const DeviceOptions& options, const PassSize& size) {
  const std::uint64_t wide = precision(options) == Precision::f32 ? 2 : 1;  // of bf16
  std::uint64_t largest = 0;
  for (const ExpectedTensor& tensor : expected_tensors(config))
    largest = std::max(largest, tensor.dtype == DType::bf16 ? wide * tensor.bytes : tensor.bytes);
  const auto rows = static_cast<std::uint64_t>(size.rows), context = static_cast<std::uint64_t>(size.context);
  const int widest =
      std::max({2 * config.query_dim(), config.conv_dim(),
                config.moe() ? config.num_experts_per_tok * config.hidden_size : config.intermediate_size});
  largest = std::max(largest, 4 * rows * static_cast<std::uint64_t>(widest));
  return size.rows > 1 ? std::max(largest, 4 * context * static_cast<std::uint64_t>(config.kv_dim())) : largest;
}

/// Where the library lies that this program has loaded.
std::filesystem::path origin() {
  Dl_info info{};
  return ::dladdr(reinterpret_cast<const void*>(&mx::version), &info) != 0 && info.dli_fname ? info.dli_fname : "";
}

/// Whether MLX was built with the kernels for the matrix units of M5.
std::string m5_kernels() {
  try {
    const MappedFile library(origin().parent_path() / "mlx.metallib");
    const std::string_view text(reinterpret_cast<const char*>(library.bytes().data()), library.bytes().size());
    return text.find("_nax") != std::string_view::npos ? "yes" : "no: a prompt is 2 to 4 times slower on M5 and later";
  } catch (const Error&) {
    return "not known: mlx.metallib is not beside the library";
  }
}

std::string told(const SelfCheck& one) {
  if (!one.error.empty()) return "FAILED: " + one.error.substr(0, one.error.find('\n'));
  return fmt::format("{}, {:.1e} (at most {:.0e}) in {:.2f} s", one.passed() ? "passed" : "FAILED", one.difference,
                     one.limit, one.seconds);
}

std::string times_of(const KernelShape& shape) {
  try {
    const AttentionTimes times = attention_times(run_on_metal, shape, 32768);
    return fmt::format("own kernel {:.2f} ms on turboquant and {:.2f} ms on bf16, MLX's {:.2f} ms on bf16",
                       times.kernel * 1e3, times.kernel_plain * 1e3, times.mlx_plain * 1e3);
  } catch (const std::exception& error) {
    return std::string("not measured: ") + error.what();
  }
}

std::vector<std::pair<std::string, std::string>> facts() {
  std::vector<std::pair<std::string, std::string>> facts{
      {"library", fmt::format("MLX {}, {}", mx::version(), origin().string())},
      {"caches", "baseline, mlx_quant, rotated_quant, turboquant"}};
  const auto gigabytes = [](std::uint64_t bytes) { return fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9); };
  std::vector<KernelShape> shapes;
  if (on_processor()) {
    facts.emplace_back("kernels", "MLX's operations: own kernels are for a GPU");
    facts.emplace_back("note", "MLX has no GPU here: the processor serves for proof, not for speed");
  } else {
    facts.emplace_back("memory for the GPU", gigabytes(working_set()) + ", as macOS recommends");
    facts.emplace_back("largest buffer", gigabytes(gpu_number("max_buffer_length")));
    facts.emplace_back("kernels for M5", m5_kernels());
    facts.emplace_back("attention of a decoded token", "own kernel where its test passes, else MLX's operations");
    facts.emplace_back("encoding of turboquant", "own kernel where its test passes, else MLX's operations");
    SideFormat coded, plain;
    coded.kind = SideFormat::Kind::turboquant;
    coded.bits = 4;
    coded.scalar = KvScalar::corrected;
    shapes = {{coded, coded, 16, 2, 256}, {plain, plain, 16, 2, 256}};
  }
  facts.emplace_back("other steps", "MLX's operations");
  MlxThread thread;
  thread.run([&] {
    for (const SelfCheck& one : self_test(operations())) facts.emplace_back("self-test of " + one.name, told(one));
    for (const KernelShape& shape : shapes)
      for (const SelfCheck& one : kernel_checks(run_on_metal, shape))
        facts.emplace_back("self-test of " + one.name, told(one));
    if (!shapes.empty())
      facts.emplace_back("attention of a decoded token over 32,768 tokens", times_of(shapes.front()));
  });
  return facts;
}

}  // namespace

bool on_processor() {
  return !mx::is_available(mx::Device::gpu);
}

std::string gpu_name() {
  if (on_processor()) return "processor";
  const auto& facts = mx::gpu::device_info(0);
  const auto text = [&](const std::string& name) {
    const auto found = facts.find(name);
    return found != facts.end() && std::holds_alternative<std::string>(found->second)
               ? std::get<std::string>(found->second)
               : std::string("unknown");
  };
  return text("device_name") + ", " + text("architecture");
}

std::uint64_t working_set() {
  return gpu_number("max_recommended_working_set_size");
}

Precision precision(const DeviceOptions& options) {
  return on_processor() ? Precision::f32 : options.precision;
}

std::uint64_t pass_bytes(const ModelConfig& config, const PassSize& size) {
  // Half a layer's arrays live at the same time, in float32 at most: those of the stream, and of the attention, the
  // delta rule or the MLP. Attention has scores of one call, and keys and values of its layer decoded: run by run, then
  // as one array.
  const auto rows = static_cast<std::uint64_t>(size.rows), context = static_cast<std::uint64_t>(size.context);
  const auto times = [](std::uint64_t count, int width) { return count * static_cast<std::uint64_t>(width); };
  std::uint64_t scores = times(std::min<std::uint64_t>(rows, queries_at_once) * context, config.num_attention_heads);
  if (!on_processor()) scores = std::min(scores, most_scores / sizeof(float));
  const std::uint64_t attention =
      times(rows, 4 * config.query_dim() + 8 * config.kv_dim()) + scores + times(context, 4 * config.kv_dim());
  // Of the delta rule the processor has the chunked form, whose arrays wait for their turn; measured.
  const std::uint64_t delta = times(rows, on_processor() ? 8 * config.conv_dim() + 12 * config.value_dim()
                                                         : 3 * config.conv_dim() + 3 * config.value_dim());
  const std::uint64_t mlp = times(
      rows, config.moe() ? config.num_experts_per_tok * (2 * config.hidden_size + 3 * config.moe_intermediate_size)
                         : 3 * config.intermediate_size);
  const std::uint64_t logits =
      (size.every_row ? std::min<std::uint64_t>(rows, 128) : 1) * static_cast<std::uint64_t>(config.vocab_size);
  // What the linear layers remember is written anew by each step: of one that is queued ahead and of the one before it,
  // beside what stands.
  const std::uint64_t states =
      2 * static_cast<std::uint64_t>(config.linear_layers()) *
      (static_cast<std::uint64_t>(config.value_dim()) * static_cast<std::uint64_t>(config.linear_key_head_dim) +
       static_cast<std::uint64_t>((config.linear_conv_kernel_dim - 1) * config.conv_dim()));
  return 4 * (times(rows, 4 * config.hidden_size) + std::max({attention, delta, mlp}) + logits + states);
}

}  // namespace mlx

const DeviceKind& mlx_kind() {
  static const DeviceKind kind = {.name = "mlx",
                                  .preferred = [] { return !mlx::on_processor(); },
                                  .keys = mlx::keys,
                                  .missing = mlx::missing,
                                  .load = mlx::load,
                                  .report = mlx::report,
                                  .facts = mlx::facts,
                                  .check_format = mlx::check_stored,
                                  .allocation = cache::Allocation::segments,
                                  .working_memory = mlx::working_memory,
                                  .largest_array = mlx::largest_array,
                                  .memory = mlx::memory,
                                  .weight_bytes = mlx::weight_bytes};
  return kind;
}

}  // namespace tqkv
