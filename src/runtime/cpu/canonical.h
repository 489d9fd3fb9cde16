// Between the pages of this device, head by head, and the canonical ones of docs/formats.md, token by token: the same
// bytes in another order.
#pragma once
#include <cstddef>
#include <span>

#include "runtime/cpu/kv_pages.h"

namespace tqkv::cpu {

/// Tokens first..first+count-1 of `pages`, which must hold them: bytes [count, kv heads, vector].
void to_canonical(const SidePages& pages, int first, int count, std::byte* bytes);
/// The inverse, of tokens that `pages` has room for.
void from_canonical(const SidePages& pages, int first, int count, const std::byte* bytes);

}  // namespace tqkv::cpu
