// Groups of options that several commands share.
#pragma once
#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <vector>

#include "tqkv/engine.h"
#include "tqkv/kv_format.h"

namespace tqkv::cli {

/// Largest number that an option for a count of tokens takes.
inline constexpr int max_count = 1 << 30;

/// --device, and options that name keys of it: --threads, --isa, --kernels, --wired.
struct DeviceChoice {
  std::string text = "cpu";
  std::map<std::string, std::string> keys;

  /// Throws Error(usage) for a device, key or value that there is not, and for a key that is named twice.
  Device device() const;
};
void add_device_options(CLI::App& command, DeviceChoice& options, const char* group);

/// MODEL, how the engine runs it and how its sessions are opened.
struct ModelOptions {
  std::string model;
  DeviceChoice device_choice;
  std::string precision = "fast";
  std::string state = "f32";
  int context = 0;  // tokens; 0: not given
  int prefill_chunk = 2048;
  bool force = false;  // run although the memory plan does not fit, without a guard

  DeviceOptions device() const;
  /// `context` is what was given, or 0.
  SessionOptions session() const;
};

/// The positional MODEL alone.
void add_model_argument(CLI::App& command, std::string& model);
/// MODEL and every option of ModelOptions.
void add_model_options(CLI::App& command, ModelOptions& options);

/// How the KV cache is stored.
struct CacheOptions {
  std::string backend = "default";          // one format string, or several with commas
  std::map<std::string, std::string> keys;  // key of a format string -> value, from --kv-bits and the like

  /// Every format, in the order given. Throws Error(usage) for a backend, key or value that does not exist, for a key
  /// that one of the formats lacks and for a format named twice.
  std::vector<KvFormat> formats() const;
  /// The one format; several are an Error(usage).
  KvFormat format() const;
};

/// --backend and the --kv options. `several`: whether the command takes more than one format.
void add_cache_options(CLI::App& command, CacheOptions& options, bool several);

}  // namespace tqkv::cli
