// What the numbers of a session file may be. Codes may be any bits: each pattern is an index.
#pragma once
#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "cache/session/layout.h"
#include "codec/side_codec.h"

namespace tqkv::cache {

/// What is wrong with the values of `tensor`, or nothing: ids outside 0 to vocabulary - 1, numbers that are not finite,
/// negative squares.
std::optional<std::string> problem_of(const SessionTensor& tensor, std::span<const std::byte> bytes, int head_dim,
                                      int vocabulary);

}  // namespace tqkv::cache
