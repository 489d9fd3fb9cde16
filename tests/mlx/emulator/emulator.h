// Kernels run on the processor, from the text that Metal would get: compiled as C++ the first time, and kept in the
// build folder. Linux alone.
#pragma once
#include <filesystem>
#include <functional>
#include <string>

#include "runtime/mlx/kernels/kernels.h"

namespace tqkv::test::emulator {

struct Options {
  std::uint64_t seed = 0;  ///< of the order of lanes and groups
  /// Changes the text before it is compiled: a test plants a mistake.
  std::function<std::string(const std::string& text)> change = {};
};

/// Lanes are coroutines of this process. Throws std::runtime_error where lanes do not meet.
mlx::RunKernel emulated(const Options& options = {});

/// In a program of its own, under sanitizers: "address,undefined", where lanes are coroutines, or "thread", where each
/// is a thread. Throws std::runtime_error with what they say.
mlx::RunKernel sanitized(const std::string& sanitizers, const Options& options = {});

}  // namespace tqkv::test::emulator
