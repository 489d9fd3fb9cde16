// Tests of this device that have passed, kept in the user's cache folder. Those of another MLX, program, system or GPU
// do not count.
#pragma once
#include <string>

namespace tqkv::mlx {

/// `result` is a line.
bool has_result(const std::string& result);
/// Where the folder cannot be written to, the next run tests again.
void keep_result(const std::string& result);

}  // namespace tqkv::mlx
