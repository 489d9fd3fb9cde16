#include "runtime/mlx/layer_cache.h"

#include <algorithm>

#include "codec/rotation.h"

namespace tqkv::mlx {
namespace {

constexpr int block_tokens = cache::page_tokens;

mx::array signs_of(const KvFormat& format, int layer, int kv_heads, int dim) {
  std::vector<float> signs;
  for (int head = 0; head < kv_heads; ++head) {
    const std::vector<float> own = codec::rotation_signs(format.seed, layer, head, dim);
    signs.insert(signs.end(), own.begin(), own.end());
  }
  return mx::array(signs.begin(), {kv_heads, 1, dim}, mx::float32);
}

int tokens_in(const Payload& payload) {
  return payload.front().shape(1);
}

}  // namespace

// ---- RangeStore

void RangeStore::start_at(int token) {
  begin_ = end_ = token;
}

void RangeStore::append(const Payload& payload) {
  int done = 0;
  const int count = tokens_in(payload);
  if (!blocks_.empty() && tokens_in(blocks_.back()) % block_tokens != 0) {  // the last one takes what it has room for
    const int room = block_tokens - tokens_in(blocks_.back()) % block_tokens;
    done = std::min(room, count);
    blocks_.back() = joined({blocks_.back(), tokens_of(payload, 0, done)});
  }
  const int full = (count - done) / block_tokens * block_tokens;
  if (full > 0) blocks_.push_back(tokens_of(payload, done, done + full));
  if (done + full < count) blocks_.push_back(tokens_of(payload, done + full, count));
  end_ += count;
}

void RangeStore::truncate(int end) {
  while (end_ > end && !blocks_.empty()) {
    const int last = tokens_in(blocks_.back()), kept = last - std::min(last, end_ - end);
    end_ -= last - kept;
    if (kept == 0)
      blocks_.pop_back();
    else
      blocks_.back() = tokens_of(blocks_.back(), 0, kept);
  }
}

void RangeStore::drop_before(int token) {
  token -= std::max(token, 0) % block_tokens;
  while (!blocks_.empty() && begin_ < token) {
    const int count = tokens_in(blocks_.front()), gone = std::min(count, token - begin_);
    begin_ += gone;
    if (gone == count)
      blocks_.erase(blocks_.begin());
    else
      blocks_.front() = tokens_of(blocks_.front(), gone, count);
  }
}

std::vector<Payload> RangeStore::stored(int first, int last) const {
  std::vector<Payload> parts;
  int at = begin_;
  for (const Payload& block : blocks_) {
    const int count = tokens_in(block), from = std::max(first, at), to = std::min(last, at + count);
    if (from < to) parts.push_back(tokens_of(block, from - at, to - at));
    at += count;
  }
  return parts;
}

std::uint64_t RangeStore::bytes() const {
  std::uint64_t sum = 0;
  for (const Payload& block : blocks_)
    for (const mx::array& part : block) sum += part.nbytes();
  return sum;
}

void RangeStore::add_arrays(std::vector<mx::array>& all) const {
  for (const Payload& block : blocks_) all.insert(all.end(), block.begin(), block.end());
}

// ---- CacheSide

CacheSide::CacheSide(const KvFormat& format, const SideFormat& side, int layer, int kv_heads, int dim, bool keys)
    : format_(format), main_(side, kv_heads, dim) {
  if (side.rotated()) signs_ = signs_of(format, layer, kv_heads, dim);
  for (const cache::StoredRange& range : cache::stored_ranges(format, side, 0)) {
    if (range.range == cache::Range::sink) sink_.emplace(range.vectors, kv_heads, dim);
    if (range.range == cache::Range::window) window_.emplace(range.vectors, kv_heads, dim);
  }
  if (keys && side.kind != SideFormat::Kind::plain && format.mean > 0) {
    mean_tokens_ = format.mean;
    key_sum = mx::zeros({kv_heads, dim});
  }
}

mx::array CacheSide::to_basis(const mx::array& x) const {
  return signs_ ? mx::hadamard_transform(mx::multiply(x, *signs_)) : x;
}

mx::array CacheSide::from_basis(const mx::array& y) const {
  return signs_ ? mx::multiply(mx::hadamard_transform(y), *signs_) : y;
}

// Token by token, so that chunks do not matter; their mean once all of them are there.
void CacheSide::sum_keys(const mx::array& x, int position) {
  const int end = std::min(position + x.shape(1), mean_tokens_);
  for (int token = position; token < end; ++token)
    key_sum =
        mx::add(*key_sum,
                mx::squeeze(mx::slice(x, {0, token - position, 0}, {x.shape(0), token - position + 1, x.shape(2)}), 1));
  if (end == mean_tokens_) key_sum = mx::divide(*key_sum, mx::array(static_cast<float>(mean_tokens_)));
}

void CacheSide::append(const mx::array& rows, int position) {
  mx::array x = mx::contiguous(mx::transpose(rows, {1, 0, 2}));
  const int heads = x.shape(0), count = x.shape(1), dim = x.shape(2);
  const auto part = [&](int first, int last) { return mx::slice(x, {0, first, 0}, {heads, last, dim}); };
  if (position < mean_tokens_) sum_keys(x, position);
  if (sink_) {
    const int own = std::clamp(format_.sink - position, 0, count);
    if (own > 0) sink_->append(sink_->codec().encode(part(0, own)));
  }
  if (mean_tokens_ > 0) {
    const int plain = std::clamp(mean_tokens_ - position, 0, count);
    if (plain < count) {
      const mx::array centred = mx::subtract(part(plain, count), mx::expand_dims(*key_sum, 1));
      x = plain > 0 ? mx::concatenate({part(0, plain), centred}, 1) : centred;
    }
  }
  if (window_) {
    if (window_->begin() == window_->end()) window_->start_at(position);
    window_->append(window_->codec().encode(x));
  }
  main_.append(main_.codec().encode(to_basis(x)));
}

void CacheSide::drop_for(int position) {
  if (window_) window_->drop_before(position - format_.window);
}

// Tokens from `first` on get back the mean that was taken off.
mx::array CacheSide::with_mean(const mx::array& x, int first) const {
  const int count = x.shape(1), plain = std::clamp(mean_tokens_ - first, 0, count);
  if (mean_tokens_ == 0 || plain == count) return x;
  const mx::array mean = mx::expand_dims(*key_sum, 1);
  if (plain == 0) return mx::add(x, mean);
  return mx::concatenate(
      {mx::slice(x, {0, 0, 0}, {x.shape(0), plain, x.shape(2)}), mx::add(mx::slice(x, {0, plain, 0}, x.shape()), mean)},
      1);
}

std::vector<mx::array> CacheSide::decoded(cache::Range range, int first, int last) const {
  const bool sink = range == cache::Range::sink && sink_, window = range == cache::Range::window && window_;
  const RangeStore& store = sink ? *sink_ : window ? *window_ : main_;
  std::vector<mx::array> parts;
  for (const Payload& payload : store.stored(first, last)) {
    const mx::array x = store.codec().decode(payload);
    const int count = x.shape(1);
    parts.push_back(sink ? x : with_mean(window ? x : from_basis(x), first));
    first += count;
  }
  return parts;
}

void CacheSide::truncate(int tokens) {
  main_.truncate(tokens);
  if (sink_) sink_->truncate(tokens);
  if (window_) window_->truncate(tokens);
}

std::uint64_t CacheSide::bytes() const {
  std::uint64_t sum = main_.bytes() + (key_sum ? key_sum->nbytes() : 0);
  if (sink_) sum += sink_->bytes();
  if (window_) sum += window_->bytes();
  return sum;
}

void CacheSide::add_arrays(std::vector<mx::array>& all) const {
  main_.add_arrays(all);
  if (sink_) sink_->add_arrays(all);
  if (window_) window_->add_arrays(all);
  if (key_sum) all.push_back(*key_sum);
}

const RangeStore& CacheSide::store_of(cache::SessionPart part) const {
  return part == cache::SessionPart::sink ? *sink_ : part == cache::SessionPart::window ? *window_ : main_;
}

RangeStore& CacheSide::store_of(cache::SessionPart part) {
  return part == cache::SessionPart::sink ? *sink_ : part == cache::SessionPart::window ? *window_ : main_;
}

std::uint64_t CacheSide::Snapshot::bytes() const {
  return (window ? window->bytes() : 0) + (key_sum ? key_sum->nbytes() : 0);
}

void CacheSide::restore(const Snapshot& snapshot, int tokens) {
  window_ = snapshot.window;
  key_sum = snapshot.key_sum;
  main_.truncate(tokens);
  if (sink_) sink_->truncate(tokens);
}

}  // namespace tqkv::mlx
