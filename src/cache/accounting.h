// Byte accounting: what a cache costs, from shapes alone. The same functions size the pages of a session, so that the
// figures printed are the figures allocated.
#pragma once
#include <cstdint>
#include <span>

#include "tqkv/engine.h"
#include "tqkv/kv_format.h"
#include "tqkv/model_config.h"

namespace tqkv::cache {

inline constexpr int page_tokens = 256;  // mlx-lm's block

/// Pages that `tokens` tokens take in one layer and side.
int pages_for(int tokens);
/// Bytes that one more token takes over all attention layers, when its keys and values are coded: what is kept of the
/// first and the newest tokens in addition (KvFormat::sink, window, mean) does not grow with them.
std::uint64_t bytes_per_token(const ModelConfig& config, const KvFormat& format);
/// Bytes of a session that holds `tokens` tokens. `conv_bits` is 16 (bf16), or 32 under f32 precision.
CacheBytes cache_bytes(const ModelConfig& config, const KvFormat& format, int tokens, StateType state,
                       int conv_bits = 16);
/// Floats of the widest decoded key or value: head_dim, or more where signs of S are kept.
int widest_vector(const ModelConfig& config, const KvFormat& format);
/// How a split side stores tokens 0 to 255, before its channels are chosen: turboquant of one bit more.
SideFormat format_before_split(const SideFormat& split);
/// Throws Error(format), naming the format, when some side cannot store head_dim channels, when `layers` names one
/// that has no key-value cache, or as check_layers() does.
void check_format(const ModelConfig& config, const KvFormat& format);
/// Throws Error(format), naming the format, when `side` of it cannot store head_dim channels.
void check_side(const KvFormat& format, const SideFormat& side, int head_dim);
/// Of a format on these attention layers, whose numbers are those of the model. Throws Error(format), naming the
/// format, when layers or a boundary leave nothing compressed, or a mean no compressed keys.
void check_layers(std::span<const int> attention_layers, const KvFormat& format);

}  // namespace tqkv::cache
