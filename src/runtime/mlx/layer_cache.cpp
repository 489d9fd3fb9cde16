#include "runtime/mlx/layer_cache.h"

#include <algorithm>
#include <numeric>

#include "codec/rotation.h"

namespace tqkv::mlx {
namespace {

constexpr int page = cache::page_tokens;

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

mx::array empty_like(const mx::array& part, int tokens) {
  return mx::zeros({part.shape(0), tokens, part.shape(2)}, part.dtype());
}

/// Tokens first..last-1 in arrays that hold no others.
Payload own_tokens(const Payload& payload, int first, int last) {
  if (first == 0 && last == tokens_in(payload)) return payload;
  Payload own = tokens_of(payload, first, last);
  for (mx::array& part : own) {
    part = mx::contiguous(part);
    part.eval();
  }
  return own;
}

/// `to` with `part` from its token `at` on. In place where nothing else holds `to`.
mx::array written(mx::array&& to, const mx::array& part, int at) {
  const mx::array own = std::move(to);  // the only one left
  return mx::slice_update(own, part, mx::Shape{0, at, 0}, mx::Shape{part.shape(0), at + part.shape(1), part.shape(2)});
}

}  // namespace

// ---- RangeStore

RangeStore::RangeStore(const SideFormat& format, int kv_heads, int dim, int segment, int growth)
    : codec_(format, kv_heads, dim), segment_(segment), growth_(growth) {}

void RangeStore::start_at(int token) {
  segments_.clear();
  tail_.clear();
  base_ = token - token % page;
  begin_ = end_ = token;
}

void RangeStore::append(const Payload& payload) {
  const int count = tokens_in(payload);
  for (int done = 0; done < count;) {
    const int in_page = (end_ - base_) % page;
    if (in_page == 0 && !tail_.empty()) {  // a full one
      const Payload full = std::move(tail_);
      tail_.clear();
      move_to_segments(full, end_ - base_ - page);
    }
    const int whole = in_page == 0 ? (count - done - 1) / page * page : 0;  // the last page stays in the tail
    const int taken = whole > 0 ? whole : std::min(count - done, page - in_page);
    const Payload part = tokens_of(payload, done, done + taken);
    if (whole > 0)
      move_to_segments(part, end_ - base_);
    else
      write_tail(part, in_page);
    done += taken;
    end_ += taken;
  }
}

void RangeStore::write_tail(const Payload& payload, int at) {
  for (std::size_t i = 0; i < payload.size(); ++i) {
    if (tail_.size() == i) tail_.push_back(empty_like(payload[i], page));
    tail_[i] = written(std::move(tail_[i]), payload[i], at);
  }
}

// Whole pages, which become tokens `at` and after of the segments. A step that is under way reads them: it is waited
// for, or MLX would copy the segment.
void RangeStore::move_to_segments(const Payload& payload, int at) {
  mx::synchronize();
  for (int done = 0, count = tokens_in(payload); done < count;) {
    const int used = at % segment_, taken = std::min(count - done, segment_ - used);
    const int room = (used + taken + growth_ - 1) / growth_ * growth_;
    const Payload part = tokens_of(payload, done, done + taken);
    if (used == 0) segments_.emplace_back();
    Payload& segment = segments_.back();
    for (std::size_t i = 0; i < part.size(); ++i) {
      if (used == 0) segment.push_back(empty_like(part[i], room));
      if (segment[i].shape(1) < room) {
        segment[i] = written(empty_like(part[i], room), segment[i], 0);
        segment[i].eval();
      }
      mx::array made = written(std::move(segment[i]), part[i], used);
      try {
        made.eval();
      } catch (...) {
        segment[i] = made.has_primitive() ? made.inputs().front() : made;  // as it was: what is new lies behind
        throw;
      }
      segment[i] = std::move(made);
    }
    done += taken;
    at += taken;
  }
}

// Leaves the first `tokens` tokens, whole pages.
void RangeStore::cut_segments(int tokens) {
  segments_.resize(static_cast<std::size_t>((tokens + segment_ - 1) / segment_));
  if (segments_.empty()) return;
  const int used = tokens - (static_cast<int>(segments_.size()) - 1) * segment_;
  segments_.back() = own_tokens(segments_.back(), 0, (used + growth_ - 1) / growth_ * growth_);
}

void RangeStore::truncate(int end) {
  if (end >= end_) return;
  if (end <= begin_) return start_at(begin_);
  const int before = in_segments();
  end_ = end;
  const int kept = in_segments();
  if (kept == before) return;
  const int at = kept % segment_;
  tail_ = own_tokens(segments_[static_cast<std::size_t>(kept / segment_)], at, at + page);
  cut_segments(kept);
}

void RangeStore::go_back(const Mark& mark) {
  begin_ = mark.begin;
  end_ = mark.end;
  tail_ = mark.tail;
  cut_segments(in_segments());
}

void RangeStore::drop_before(int token) {
  const int first = std::max(token, 0) / page * page;
  while (base_ < first && !segments_.empty() && base_ + segment_ <= first) {
    segments_.erase(segments_.begin());
    base_ += segment_;
    begin_ = base_;
  }
}

std::vector<Run> RangeStore::runs(int first, int last) const {
  std::vector<Run> all;
  const auto add = [&](const Payload& arrays, int begin, int count) {
    const int from = std::max(first, begin), to = std::min(last, begin + count);
    if (from < to) all.push_back({&arrays, from - begin, to - begin, from});
  };
  const int whole = in_segments();
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    const int at = static_cast<int>(i) * segment_;
    add(segments_[i], base_ + at, std::min(segment_, whole - at));
  }
  if (!tail_.empty()) add(tail_, base_ + whole, page);
  return all;
}

std::uint64_t RangeStore::bytes() const {
  std::vector<mx::array> all;
  add_arrays(all);
  return std::accumulate(all.begin(), all.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const mx::array& part) { return sum + part.nbytes(); });
}

void RangeStore::add_arrays(std::vector<mx::array>& all) const {
  for (const Payload& segment : segments_) all.insert(all.end(), segment.begin(), segment.end());
  all.insert(all.end(), tail_.begin(), tail_.end());
}

// ---- CacheSide

CacheSide::CacheSide(const KvFormat& format, const SideFormat& side, int layer, int kv_heads, int dim, bool keys,
                     RunKernel encode)
    : format_(format),
      encode_(std::move(encode)),
      main_(side, kv_heads, dim, cache::segment_tokens, cache::segment_growth) {
  if (side.rotated()) signs_ = signs_of(format, layer, kv_heads, dim);
  for (const cache::StoredRange& range : cache::stored_ranges(format, side, 0)) {
    if (range.range == cache::Range::sink) sink_.emplace(range.vectors, kv_heads, dim, page, page);
    if (range.range == cache::Range::window) window_.emplace(range.vectors, kv_heads, dim, page, page);
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
  main_.append(encode_ ? encode(encode_, main_.codec().format(), x, *signs_) : main_.codec().encode(to_basis(x)));
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

CacheSide::Served CacheSide::served(cache::Range range) const {
  if (range == cache::Range::sink && sink_) return {*sink_, false};
  if (range == cache::Range::window && window_) return {*window_, false};
  return {main_, signs_.has_value()};
}

std::vector<mx::array> CacheSide::decoded(cache::Range range, int first, int last) const {
  const auto [store, rotated] = served(range);
  const bool sink = range == cache::Range::sink && sink_;
  std::vector<mx::array> parts;
  for (const Run& run : store.runs(first, last)) {
    const mx::array x = store.codec().decode(tokens_of(*run.arrays, run.from, run.to));
    parts.push_back(sink ? x : with_mean(rotated ? from_basis(x) : x, run.position));
  }
  return parts;
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

void CacheSide::Snapshot::add_arrays(std::vector<mx::array>& all) const {
  if (window) window->add_arrays(all);
  if (key_sum) all.push_back(*key_sum);
}

void CacheSide::restore(const Snapshot& snapshot, int tokens) {
  window_ = snapshot.window;
  key_sum = snapshot.key_sum;
  main_.truncate(tokens);
  if (sink_) sink_->truncate(tokens);
}

CacheSide::Mark CacheSide::mark() const {
  Mark mark{main_.mark(), {}, snapshot()};
  if (sink_) mark.sink = sink_->mark();
  return mark;
}

void CacheSide::go_back(const Mark& mark) {
  main_.go_back(mark.main);
  if (sink_) sink_->go_back(*mark.sink);
  window_ = mark.rest.window;
  key_sum = mark.rest.key_sum;
}

}  // namespace tqkv::mlx
