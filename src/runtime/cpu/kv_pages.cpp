#include "runtime/cpu/kv_pages.h"

namespace tqkv::cpu {

void SidePages::reserve(int tokens) {
  const auto pages = static_cast<std::size_t>(cache::pages_for(tokens));
  while (pages_.size() < pages) pages_.push_back(std::make_unique_for_overwrite<std::byte[]>(page_bytes()));
}

void SidePages::truncate(int tokens) {
  const auto pages = static_cast<std::size_t>(cache::pages_for(tokens));
  if (pages < pages_.size()) pages_.resize(pages);
}

std::byte* SidePages::head_bytes(int head, int token) const {
  const auto page = static_cast<std::size_t>(token / cache::page_tokens);
  return pages_[page].get() + static_cast<std::size_t>(head) * codec_.vector_bytes() * cache::page_tokens;
}

std::byte* SidePages::codes(int head, int token) const {
  return head_bytes(head, token) + static_cast<std::size_t>(token % cache::page_tokens) * codec_.code_bytes;
}

std::byte* SidePages::scalars(int head, int token) const {
  return head_bytes(head, token) + cache::page_tokens * codec_.code_bytes +
         static_cast<std::size_t>(token % cache::page_tokens) * codec_.scalar_bytes;
}

}  // namespace tqkv::cpu
