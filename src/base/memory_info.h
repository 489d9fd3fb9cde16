// What this process and this machine hold in memory. Bytes; 0 where the system does not tell.
#pragma once
#include <cstdint>

namespace tqkv {

std::uint64_t available_memory();     ///< free for new anonymous memory, the limit of the container counted
std::uint64_t total_memory();         ///< of the machine or its container, the smaller
std::uint64_t anonymous_memory();     ///< of this process, resident (RssAnon)

}  // namespace tqkv
