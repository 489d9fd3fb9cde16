// Byte accounting: what a cache costs, from shapes alone. The same functions size the pages of a session, so that the
// figures printed are the figures allocated.
#pragma once
#include <cstdint>
#include <span>

#include "cache/ranges.h"
#include "tqkv/cache_report.h"
#include "tqkv/device.h"
#include "tqkv/kv_format.h"
#include "tqkv/model_config.h"

namespace tqkv::cache {

/// Bytes that one more token takes over all attention layers, when its keys and values are coded: what is kept of the
/// first and the newest tokens in addition (KvFormat::sink, window, mean) does not grow with them.
std::uint64_t bytes_per_token(const ModelConfig& config, const KvFormat& format);
/// Bits of an element of the convolution's state: 16 (bf16), or 32 under f32 precision.
int convolution_bits(Precision precision);
/// The format that a session of `precision` has: plain sides are f32 under f32 precision.
KvFormat as_stored(const KvFormat& format, Precision precision);
/// How a device makes room: page by page, or with the main pages before the newest one in segments (ranges.h).
enum class Allocation { pages, segments };
/// Bytes of a session of `precision` that holds `tokens` tokens; `format` is as stored.
CacheBytes cache_bytes(const ModelConfig& config, const KvFormat& format, int tokens, StateType state,
                       Precision precision = Precision::fast, Allocation allocation = Allocation::pages);
/// Bytes of a snapshot of such a session, at most: a copy of the recurrent state, of the mean of keys and of the
/// window.
std::uint64_t snapshot_bytes(const ModelConfig& config, const KvFormat& format, int tokens, StateType state,
                             Precision precision = Precision::fast, Allocation allocation = Allocation::pages);
/// Floats of the widest decoded key or value: head_dim, or more where signs of S are kept.
int widest_vector(const ModelConfig& config, const KvFormat& format);
/// Throws Error(format), naming the format, when some side cannot store head_dim channels, when `layers` names one
/// that has no key-value cache, or as check_layers() does.
void check_format(const ModelConfig& config, const KvFormat& format);
/// Throws Error(format), naming the format, when `side` of it cannot store head_dim channels.
void check_side(const KvFormat& format, const SideFormat& side, int head_dim);
/// Of a format on these attention layers, whose numbers are those of the model. Throws Error(format), naming the
/// format, when layers or a boundary leave nothing compressed, or a mean no compressed keys.
void check_layers(std::span<const int> attention_layers, const KvFormat& format);

}  // namespace tqkv::cache
