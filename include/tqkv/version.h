// The version of tqkv, the same as in CMakeLists.txt.
#pragma once
#include <string_view>

namespace tqkv {

inline constexpr std::string_view version = "0.1.0";

}  // namespace tqkv
