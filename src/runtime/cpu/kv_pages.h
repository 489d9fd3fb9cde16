// KvPages: the encoded keys and values of one attention layer, in pages of 256 tokens that never move. A page of one
// side holds, for each KV head, the codes of 256 tokens and then their scalars: attention over one head reads memory in
// order. docs/formats.md has the canonical order of the same bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "cache/accounting.h"
#include "codec/side_codec.h"

namespace tqkv::cpu {

/// One side (keys or values) of one layer.
class SidePages {
 public:
  SidePages(codec::SideCodec codec, int kv_heads) : codec_(codec), kv_heads_(kv_heads) {}

  const codec::SideCodec& codec() const { return codec_; }
  /// Makes room for `tokens` tokens. Existing pages stay where they are.
  void reserve(int tokens);
  /// Gives back the pages beyond `tokens` tokens.
  void truncate(int tokens);
  /// Codes and scalars of `token` of a head; those of the tokens behind it in the same page follow.
  std::byte* codes(int head, int token) const;
  std::byte* scalars(int head, int token) const;
  std::uint64_t allocated_bytes() const { return pages_.size() * page_bytes(); }
  std::uint64_t bytes_per_token() const { return codec_.vector_bytes() * static_cast<std::size_t>(kv_heads_); }

 private:
  std::size_t page_bytes() const { return bytes_per_token() * cache::page_tokens; }
  std::byte* head_bytes(int head, int token) const;

  codec::SideCodec codec_;
  int kv_heads_;
  std::vector<std::unique_ptr<std::byte[]>> pages_;
};

}  // namespace tqkv::cpu
