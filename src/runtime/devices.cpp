#include "runtime/devices.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "runtime/cpu/device.h"
#include "runtime/mlx_kind.h"
#include "runtime/no_cuda.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

template <class Rows, class NameOf>
std::string listed(const Rows& rows, NameOf name_of) {
  std::vector<std::string_view> names;
  for (const auto& row : rows) names.push_back(name_of(row));
  return fmt::format("{}", fmt::join(names, ", "));
}

[[noreturn]] void refuse(const Device& device, const std::string& problem) {
  throw Error(ErrorKind::usage, fmt::format("device `{}`: {}", device.canonical(), problem));
}

const DeviceKind* find(std::string_view name) {
  const auto kinds = device_kinds();
  const auto found =
      std::find_if(kinds.begin(), kinds.end(), [&](const DeviceKind* kind) { return kind->name == name; });
  return found == kinds.end() ? nullptr : *found;
}

}  // namespace

std::span<const DeviceKind* const> device_kinds() {
  static const std::array<const DeviceKind*, 3> kinds = {&cpu::device_kind(), &mlx_kind(), &cuda_kind()};
  return kinds;
}

Device chosen(Device device) {
  if (device.name != "auto") return device;
  const auto kinds = device_kinds();
  const auto found = std::find_if(kinds.begin(), kinds.end(), [](const DeviceKind* kind) {
    return kind->preferred && kind->missing().empty() && kind->preferred();
  });
  device.name = (found == kinds.end() ? kinds.front() : *found)->name;
  return device;
}

const DeviceKind& kind_of(const Device& device) {
  const DeviceKind* kind = find(device.name);
  if (!kind)
    refuse(device, "there is no such device; there are auto, " +
                       listed(device_kinds(), [](const DeviceKind* known) { return known->name; }));
  if (const std::string problem = kind->missing(); !problem.empty()) refuse(device, problem);
  if (device.index && !kind->several) refuse(device, fmt::format("there is one {}: leave the number out", kind->name));
  for (const auto& entry : device.keys) {
    const std::string &name = entry.first, &value = entry.second;
    const auto key =
        std::find_if(kind->keys.begin(), kind->keys.end(), [&](const DeviceKey& k) { return k.name == name; });
    if (key == kind->keys.end())
      refuse(device, fmt::format("{} has no key '{}'{}", kind->name, name,
                                 kind->keys.empty() ? "" : "; it has " + listed(kind->keys, [](const DeviceKey& known) {
                                                             return known.name;
                                                           })));
    if (const std::string problem = key->problem(value); !problem.empty()) refuse(device, problem);
  }
  return *kind;
}

void check_format(const DeviceKind& kind, const ModelConfig& config, const KvFormat& format) {
  cache::check_format(config, format);
  if (kind.check_format) kind.check_format(config, format);
}

void require_precision(const DeviceOptions& options) {
  const Precision has = kind_of(options.device).report(options).precision;
  if (has != options.precision)
    refuse(options.device, fmt::format("it computes in {} precision alone here, and {} was asked for", name(has),
                                       name(options.precision)));
}

Device bits_of(Device device) {
  const DeviceKind* kind = find(device.name);
  if (!kind) return device;
  for (const DeviceKey& key : kind->keys) {
    if (key.decides_bits) continue;
    if (const auto found = device.keys.find(key.name); found != device.keys.end()) device.keys.erase(found);
  }
  return device;
}

std::unique_ptr<Engine> Engine::load(Checkpoint checkpoint, const DeviceOptions& options) {
  return kind_of(options.device).load(std::move(checkpoint), options);
}

}  // namespace tqkv
