// Device: what an engine runs on, as one value with one canonical text. Its syntax is implemented in src/base, the
// devices that there are in src/runtime.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tqkv {

/// `cpu:isa=avx2:threads=2`, `mlx`, `cuda:0`: a name, the number of one of several, then keys in the order of the
/// alphabet. What is not named is chosen when the engine is loaded.
struct Device {
  std::string name = "cpu";
  std::optional<int> index;
  std::map<std::string, std::string, std::less<>> keys;

  /// The syntax alone: Engine::load says whether there is such a device with such keys. Throws Error(usage).
  static Device parse(std::string_view text);
  std::string canonical() const;
  /// Empty where the key is not named.
  std::string_view value(std::string_view key) const;
  bool operator==(const Device&) const = default;
};

/// f32: floats everywhere, the reference. fast: what the device does best, whose damage `evaluate` measures against
/// f32.
enum class Precision { fast, f32 };
std::string_view name(Precision precision);

/// Looks at the machine while sessions run, so that a step ends with an error before the system ends the program.
struct MemoryGuard {
  std::function<std::uint64_t()> available;  ///< bytes free for new anonymous memory, 0: not known; empty: no guard
  std::uint64_t keep_free = 0;               ///< bytes that no step may take
};

struct DeviceOptions {
  Device device;
  Precision precision = Precision::fast;
  MemoryGuard guard;   ///< memory_guard() of memory_plan.h watches this machine
  bool force = false;  ///< runs although the device failed its self-test
  /// Called on another thread while weights are copied to a device, with the layers that are there.
  std::function<void(int done, int total)> progress = {};
};

/// What an engine runs on.
struct DeviceReport {
  Device device;  ///< with every key that it has
  Precision precision = Precision::fast;
  std::vector<std::pair<std::string, std::string>> values;  ///< what else there is to say: "cpu", its model's name

  std::string steps = {};    ///< which run in kernels of their own, where a device has a choice and sessions are open
  std::string warning = {};  ///< what is not as it should be, and what runs instead

  /// One line: "AMD EPYC, cpu:isa=avx2:threads=2".
  std::string text() const;
};

}  // namespace tqkv
