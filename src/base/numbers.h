// Numbers as people read them.
#pragma once
#include <cstdint>
#include <string>

namespace tqkv {

/// "1,234,567"
std::string grouped(std::uint64_t number);

}  // namespace tqkv
