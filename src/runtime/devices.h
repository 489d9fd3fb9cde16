// The devices that there are: one row of a table each. This file knows their names; what they do stands in a folder
// each.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

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

struct DeviceKind {
  std::string_view name;
  bool several;  ///< a machine can have more than one: `name:0`
  std::span<const DeviceKey> keys;
  /// Why this program cannot use it, and how to get one that can; empty where it can.
  std::string (*missing)();
  std::unique_ptr<Engine> (*load)(Checkpoint checkpoint, const DeviceOptions& options);
  /// Bytes of working memory that passes take.
  std::uint64_t (*working_memory)(const ModelConfig& config, const DeviceOptions& options, const PassSize& size);
  /// One layer's attention alone; null where the device has none.
  std::unique_ptr<LayerAttention> (*attention)(const LayerShape& shape, const KvFormat& format, int layer, int index,
                                               int count, const DeviceOptions& options);
  /// What `options` stand for on this machine, with every key.
  DeviceReport (*report)(const DeviceOptions& options);
};

/// By name; the first one is the default.
std::span<const DeviceKind* const> device_kinds();
/// The kind of a device that can be used as it is named. Throws Error(usage).
const DeviceKind& kind_of(const Device& device);
/// With the keys alone that results depend on. A device that this program does not know is given back as it is.
Device bits_of(Device device);

}  // namespace tqkv
