#include "cli/options/options.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error_text.h"
#include "cli/options/number_checks.h"
#include "runtime/devices.h"
#include "tqkv/error.h"
#include "tqkv/memory_plan.h"

namespace tqkv::cli {
namespace {

constexpr const char* model_group = "Model";
constexpr const char* cache_group = "Cache";

}  // namespace

Device DeviceChoice::device() const {
  Device device = chosen(Device::parse(text));
  for (const auto& [key, value] : keys) {
    if (device.keys.count(key) > 0)
      throw Error(ErrorKind::usage, fmt::format("--{}: --device {} names it too: give it once", key, text));
    device.keys[key] = value;
  }
  kind_of(device);
  return device;
}

void add_device_options(CLI::App& command, DeviceChoice& options, const char* group) {
  command
      .add_option("--device", options.text,
                  "What runs the model: cpu, mlx (Apple GPUs) or auto; with keys, as in cpu:isa=avx2:threads=2")
      ->type_name("DEVICE")
      ->capture_default_str()
      ->group(group);
  const auto key = [&](const char* name, const char* type, const char* help) {
    return command
        .add_option_function<std::string>(
            std::string("--") + name, [&options, name](const std::string& value) { options.keys[name] = value; }, help)
        ->type_name(type)
        ->group(group);
  };
  key("threads", "N", "Threads of the CPU (default: all cores)")->transform(whole_number(1, max_count));
  key("isa", "NAME", "Instruction set of the CPU: avx512, avx2, neon or portable (default: the fastest available)");
  key("kernels", "on|off", "Own kernels of mlx, or MLX's operations alone (default: on)");
  command
      .add_flag_function(
          "--wired", [&options](std::int64_t) { options.keys["wired"] = "on"; },
          "Keep what the GPU uses in memory: mlx alone. Without it macOS can page, with it some machines have crashed")
      ->group(group);
}

DeviceOptions ModelOptions::device() const {
  DeviceOptions device;
  device.device = device_choice.device();
  device.precision = precision == "f32" ? Precision::f32 : Precision::fast;
  if (!force) device.guard = memory_guard();
  device.force = force;
  return device;
}

SessionOptions ModelOptions::session() const {
  SessionOptions session;
  session.context = context;
  session.prefill_chunk = prefill_chunk;
  session.state = state == "bf16" ? StateType::bf16 : StateType::f32;
  return session;
}

void add_model_argument(CLI::App& command, std::string& model) {
  command.add_option("MODEL", model, "A directory, org/name[@revision] on the Hugging Face hub, or pocket")
      ->required()
      ->type_name("");
}

void add_model_options(CLI::App& command, ModelOptions& options) {
  add_model_argument(command, options.model);
  add_device_options(command, options.device_choice, model_group);
  command.add_option("--precision", options.precision, "fast, or f32 (exact, slow)")
      ->check(CLI::IsMember({"fast", "f32"}))
      ->type_name("KIND")
      ->capture_default_str()
      ->group(model_group);
  command.add_option("--state", options.state, "Type of the recurrent state: f32 or bf16")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->type_name("TYPE")
      ->capture_default_str()
      ->group(model_group);
  command.add_option("--context", options.context, "Size of the context in tokens (default: what this run needs)")
      ->transform(whole_number(1, max_count))
      ->type_name("N")
      ->group(model_group);
  command.add_option("--prefill-chunk", options.prefill_chunk, "Prompt tokens per forward pass")
      ->transform(whole_number(1, max_count))
      ->type_name("N")
      ->capture_default_str()
      ->group(model_group);
  command
      .add_flag("--force", options.force,
                "Run even if the memory plan does not fit or the device failed its self-test, and keep running when "
                "memory runs low")
      ->group(model_group);
}

void add_cache_options(CLI::App& command, CacheOptions& options, bool several) {
  std::string names = "default";
  for (const Backend backend : all_backends()) names += fmt::format(", {}", name(backend));
  names += "; with :key=value";
  command
      .add_option("--backend", options.backend,
                  names + (several ? "; several with commas" : ", as in turboquant:k=4:v=3"))
      ->type_name("FORMAT")
      ->capture_default_str()
      ->group(cache_group);
  const auto key = [&](const char* flag, const char* name, const char* type, const char* help) {
    command
        .add_option_function<std::string>(
            flag, [&options, name](const std::string& value) { options.keys[name] = value; }, help)
        ->type_name(type)
        ->group(cache_group);
  };
  key("--kv-bits", "bits", "BITS",
      "Bits per value: 4, 3.5, 3, 2.5 or 2, of which default gives keys more than values; default also 4.5, "
      "turboquant, "
      "trellis and turboquant_prod also 5; mlx_quant and rotated_quant 2 to 6, 8");
  key("--k-bits", "k", "BITS", "Bits for keys only; 16 keeps them in bf16");
  key("--v-bits", "v", "BITS", "Bits for values only; 16 keeps them in bf16");
  key("--kv-values", "values", "NAME",
      "Codec of the values, where not that of the keys: turboquant, trellis, rotated_quant or mlx_quant; not with "
      "--backend default, which has its own");
  key("--kv-group-size", "group", "N",
      "Channels that share a scale in affine codes: 32, 64 or 128, or K/V for each side");
  key("--kv-scalar", "scalar", "KIND", "Scalar of turboquant and trellis: norm, corrected, unbiased or best, or K/V");
  key("--kv-states", "states", "N",
      "States of trellis: 16, 8, 4, 2 by default at 2, 3, 4, 5 bits; more for larger tables");
  key("--kv-projection", "projection", "KIND", "Signs of turboquant_prod and qjl: gaussian or orthogonal");
  key("--kv-rows", "rows", "N", "Signs per key in qjl: a multiple of 64 up to 1024");
  key("--kv-seed", "seed", "N", "Seed of the rotation's signs");
  key("--kv-window", "window", "N", "Keep the newest N tokens in bf16");
  key("--kv-sink", "sink", "N", "Keep the first N tokens in bf16");
  key("--kv-mean", "mean", "N",
      "Store keys minus the mean of the first N keys, which stay in bf16: turboquant, trellis, rotated_quant, "
      "mlx_quant");
  key("--kv-boundary", "boundary", "N[/BITS]",
      "Keep the first and last N attention layers in bf16, or in affine 8 bit with N/8");
  key("--kv-layers", "layers", "LIST", "Layers with other bits, as in 3,7/k=8/v=5,11/k=5");
  command
      .add_flag_callback(
          "--kv-split", [&options] { options.keys["split"] = "1"; },
          "turboquant with one extra bit for the strongest quarter of the channels")
      ->group(cache_group);
}

std::vector<KvFormat> CacheOptions::formats() const {
  std::vector<KvFormat> formats;
  try {
    formats = parse_formats(backend, keys);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::format) throw;
    // A format that does not exist is a wrong option here.
    throw Error(ErrorKind::usage, std::string(problem_of(error)));
  }
  for (auto format = formats.begin(); format != formats.end(); ++format) {
    if (std::find(formats.begin(), format, *format) != format)
      throw Error(ErrorKind::usage,
                  fmt::format("--backend: '{}' is there twice: name each format once", format->canonical()));
  }
  return formats;
}

KvFormat CacheOptions::format() const {
  const std::vector<KvFormat> all = formats();
  if (all.size() > 1)
    throw Error(ErrorKind::usage,
                fmt::format("--backend: {} formats were given, this command accepts one", all.size()));
  return all.front();
}

}  // namespace tqkv::cli
