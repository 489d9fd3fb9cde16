// SidePages: encoded keys or values of one attention layer, in pages of 256 tokens that never move. A page holds, for
// each KV head, the codes of 256 tokens and then their scalars: attention over one head reads memory in order.
// docs/formats.md has the canonical order of the same bytes. Full pages can be shared with the pages of other sessions:
// nobody writes to them any more.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>

#include "cache/accounting.h"
#include "codec/side_codec.h"

namespace tqkv::cpu {

class SidePages {
 public:
  /// Pages before the one of token `begin`, a multiple of 256, are never held.
  SidePages(codec::SideCodec codec, int kv_heads, int begin = 0)
      : codec_(codec), kv_heads_(kv_heads), begin_(begin / cache::page_tokens), first_(begin_) {}
  SidePages(SidePages&&) = default;
  SidePages& operator=(SidePages&&) = default;

  const codec::SideCodec& codec() const { return codec_; }
  int kv_heads() const { return kv_heads_; }
  /// The page of `token` becomes the first that is held; only while there is none.
  void start_at(int token);
  /// Makes room for the tokens below `tokens`. Existing pages stay where they are.
  void reserve(int tokens);
  /// Gives back the pages beyond `tokens` tokens. The last one, if it is not full then and shared, becomes a copy.
  void truncate(int tokens);
  /// Gives back the pages that end at or before `token`.
  void drop_before(int token);
  /// Codes and scalars of `token` of a head; those of the tokens behind it in the same page follow.
  std::byte* codes(int head, int token) const;
  std::byte* scalars(int head, int token) const;
  std::uint64_t allocated_bytes() const { return pages_.size() * page_bytes(); }
  /// Of these, bytes of pages that others hold too.
  std::uint64_t shared_bytes() const;
  std::uint64_t bytes_per_token() const { return codec_.vector_bytes() * static_cast<std::size_t>(kv_heads_); }
  /// Takes the pages of `from`, of the same codec, up to token `tokens`: full ones are shared, another is copied.
  void adopt(const SidePages& from, int tokens);
  /// A copy with pages of its own.
  SidePages clone() const;

 private:
  std::size_t page_bytes() const { return bytes_per_token() * cache::page_tokens; }
  std::byte* head_bytes(int head, int token) const;
  void own_last(int tokens);
  std::shared_ptr<std::byte[]> new_page() const;

  codec::SideCodec codec_;
  int kv_heads_;
  int begin_;  // first page that may be held
  int first_;  // number of the first page in pages_
  std::deque<std::shared_ptr<std::byte[]>> pages_;
};

}  // namespace tqkv::cpu
