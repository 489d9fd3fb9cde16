// Whether Metal would take a text, as far as clang can tell on Linux: types and address spaces, what Metal's language
// does not have, and its limits of a threadgroup.
#pragma once
#include <string>

#include "emulator/text.h"

namespace tqkv::test::emulator {

/// Whether there is a clang that it can ask.
bool has_lint();
/// What is wrong; empty where nothing was found. `threads` of a threadgroup.
std::string lint(const KernelText& kernel, int threads);
/// A header of MLX (named under mlx/backend/metal/kernels), and behind it `use`, which instantiates its kernels.
std::string lint_header(const std::string& header, const std::string& use);

}  // namespace tqkv::test::emulator
