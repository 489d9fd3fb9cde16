// The devices that there are: one row of a table each. This file knows their names; what they do stands in a folder
// each.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/accounting.h"
#include "tqkv/device.h"
#include "tqkv/engine.h"

namespace tqkv {

class LayerAttention;
struct LayerShape;

/// A key of a device's text.
struct DeviceKey {
  std::string_view name;
  bool decides_bits;  ///< results depend on it
  /// What is wrong with a value; empty where nothing is.
  std::string (*problem)(std::string_view value);
};

/// The largest pass of a session that memory is planned for.
struct PassSize {
  int rows = 1;            ///< tokens of it
  int context = 1;         ///< most tokens that it attends to
  int vector = 0;          ///< floats of the widest decoded key or value
  bool every_row = false;  ///< logits of every row are asked for, not of the last one alone
};

/// Memory of a device that is not the machine's, or only a part of the machine's that it can use.
struct DeviceMemory {
  std::string name;                 ///< "GPU memory"
  std::uint64_t available = 0;      ///< bytes; 0: not known
  bool unified = false;             ///< what lies there is taken from the machine's memory too
  std::uint64_t largest_array = 0;  ///< bytes that one array can have; 0: not known
  /// How it can have `needed` bytes, more than are available; empty where there is no way. Null for that.
  std::string (*advice)(std::uint64_t needed) = nullptr;
};

struct DeviceKind {
  std::string_view name;
  bool several = false;  ///< a machine can have more than one: `name:0`
  /// Whether `auto` stands for it on this machine; null for no.
  bool (*preferred)() = nullptr;
  std::span<const DeviceKey> keys = {};
  /// Why this program cannot use it, and how to get one that can; empty where it can.
  std::string (*missing)() = nullptr;
  std::unique_ptr<Engine> (*load)(Checkpoint checkpoint, const DeviceOptions& options) = nullptr;
  /// What `options` stand for on this machine, with every key.
  DeviceReport (*report)(const DeviceOptions& options) = nullptr;
  /// What else `tqkv doctor` says of it, (name, value); null for nothing.
  std::vector<std::pair<std::string, std::string>> (*facts)() = nullptr;
  /// Throws Error(format) for a format that its caches cannot store; null where they store every one.
  void (*check_format)(const ModelConfig& config, const KvFormat& format) = nullptr;
  cache::Allocation allocation = cache::Allocation::pages;  ///< of keys and values
  /// Bytes of working memory that passes take.
  std::uint64_t (*working_memory)(const ModelConfig& config, const DeviceOptions& options,
                                  const PassSize& size) = nullptr;
  /// Bytes of the largest array of weights, caches and working memory, where the device has a limit for one.
  std::uint64_t (*largest_array)(const ModelConfig& config, const DeviceOptions& options,
                                 const PassSize& size) = nullptr;
  /// Where weights, caches, states and working memory lie; null for the machine's memory, where weights stay in the
  /// files that are mapped.
  DeviceMemory (*memory)(const DeviceOptions& options) = nullptr;
  /// Bytes that the weights take there, `file_bytes` in the checkpoint; null for as many.
  std::uint64_t (*weight_bytes)(const ModelConfig& config, std::uint64_t file_bytes,
                                const DeviceOptions& options) = nullptr;
  /// One layer's attention alone; null where the device has none.
  std::unique_ptr<LayerAttention> (*attention)(const LayerShape& shape, const KvFormat& format, int layer, int index,
                                               int count, const DeviceOptions& options) = nullptr;
};

/// By name; the first one is the default.
std::span<const DeviceKind* const> device_kinds();
/// What `auto` stands for here: the first kind that is preferred, or the default. Other devices are given back.
Device chosen(Device device);
/// The kind of a device that can be used as it is named. Throws Error(usage).
const DeviceKind& kind_of(const Device& device);
/// Throws Error(format) where the model or the device cannot have `format`, which is as stored.
void check_format(const DeviceKind& kind, const ModelConfig& config, const KvFormat& format);
/// For measurements, whose figures are those of a precision. Throws Error(usage) where the device computes in another.
void require_precision(const DeviceOptions& options);
/// With the keys alone that results depend on. A device that this program does not know is given back as it is.
Device bits_of(Device device);

}  // namespace tqkv
