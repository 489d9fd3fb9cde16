#include "runtime/cpu/kv_pages.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace tqkv::cpu {

std::shared_ptr<std::byte[]> SidePages::new_page() const {
  return std::shared_ptr<std::byte[]>(new std::byte[page_bytes()]);  // not cleared
}

void SidePages::start_at(int token) {
  assert(pages_.empty());
  first_ = std::max(token / cache::page_tokens, begin_);
}

void SidePages::reserve(int tokens) {
  const int pages = cache::pages_for(tokens);
  while (first_ + static_cast<int>(pages_.size()) < pages) pages_.push_back(new_page());
}

void SidePages::truncate(int tokens) {
  const int pages = std::max(cache::pages_for(tokens), first_);
  while (first_ + static_cast<int>(pages_.size()) > pages) pages_.pop_back();
  own_last(tokens);
}

// What comes next is written to the last page, unless it is full.
void SidePages::own_last(int tokens) {
  const int end = (first_ + static_cast<int>(pages_.size())) * cache::page_tokens;
  if (pages_.empty() || tokens >= end || pages_.back().use_count() == 1) return;
  auto copy = new_page();
  std::memcpy(copy.get(), pages_.back().get(), page_bytes());
  pages_.back() = std::move(copy);
}

void SidePages::adopt(const SidePages& from, int tokens) {
  first_ = from.first_;
  pages_ = from.pages_;
  truncate(tokens);
}

std::uint64_t SidePages::shared_bytes() const {
  return static_cast<std::uint64_t>(
             std::count_if(pages_.begin(), pages_.end(), [](const auto& page) { return page.use_count() > 1; })) *
         page_bytes();
}

void SidePages::drop_before(int token) {
  while (!pages_.empty() && (first_ + 1) * cache::page_tokens <= token) {
    pages_.pop_front();
    ++first_;
  }
}

std::byte* SidePages::head_bytes(int head, int token) const {
  const auto page = static_cast<std::size_t>(token / cache::page_tokens - first_);
  return pages_[page].get() + static_cast<std::size_t>(head) * codec_.vector_bytes() * cache::page_tokens;
}

std::byte* SidePages::codes(int head, int token) const {
  return head_bytes(head, token) + static_cast<std::size_t>(token % cache::page_tokens) * codec_.code_bytes;
}

std::byte* SidePages::scalars(int head, int token) const {
  return head_bytes(head, token) + cache::page_tokens * codec_.code_bytes +
         static_cast<std::size_t>(token % cache::page_tokens) * codec_.scalar_bytes;
}

SidePages SidePages::clone() const {
  SidePages copy(codec_, kv_heads_, begin_ * cache::page_tokens);
  copy.first_ = first_;
  for (const auto& page : pages_) {
    copy.pages_.push_back(new_page());
    std::memcpy(copy.pages_.back().get(), page.get(), page_bytes());
  }
  return copy;
}

}  // namespace tqkv::cpu
