// Where the tokens of a range lie: whatever is appended, cut off or taken back, the store holds what a plain list
// holds, in as many bytes as the accounting says, and nothing large is copied.
#include <doctest/doctest.h>
#include <mlx/memory.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/splitmix64.h"
#include "runtime/mlx/layer_cache.h"

using namespace tqkv;
using tqkv::mlx::Payload;
using tqkv::mlx::RangeStore;

namespace {

namespace mx = ::mlx::core;

constexpr int heads = 2, dim = 32, page = cache::page_tokens;

/// Tokens first..last-1, whose channels are their numbers.
Payload numbered(int first, int last) {
  const mx::array number = mx::reshape(mx::arange(first, last), {1, last - first, 1});
  return {mx::astype(mx::broadcast_to(number, {heads, last - first, dim}), mx::float32)};
}

SideFormat plain() {
  SideFormat format;
  format.bits = 32;
  return format;
}

/// The numbers of tokens first..last-1.
std::vector<int> read(const RangeStore& store, int first, int last) {
  std::vector<int> numbers;
  for (const tqkv::mlx::Run& run : store.runs(first, last)) {
    CHECK(run.position == first + static_cast<int>(numbers.size()));
    mx::array part = mx::contiguous(tqkv::mlx::tokens_of(*run.arrays, run.from, run.to)[0]);
    part.eval();
    for (int token = 0; token < run.to - run.from; ++token) {
      const float value = part.data<float>()[token * dim];
      CHECK(part.data<float>()[(run.to - run.from + token) * dim + dim - 1] == value);
      numbers.push_back(static_cast<int>(value));
    }
  }
  return numbers;
}

std::vector<int> from_to(int first, int last) {
  std::vector<int> numbers;
  for (int token = first; token < last; ++token) numbers.push_back(token);
  return numbers;
}

std::uint64_t bytes_of_pages(int pages) {
  return static_cast<std::uint64_t>(pages) * page * heads * dim * sizeof(float);
}

}  // namespace

TEST_CASE("tokens that come in any portions, are cut off and come again lie where they are looked for") {
  constexpr int segment = 4 * page, growth = 2 * page;
  RangeStore store(plain(), heads, dim, segment, growth);
  int end = 0;
  for (std::uint64_t step = 0; step < 120; ++step) {
    const auto pick = [&](std::uint64_t kind, int below) {
      return static_cast<int>(splitmix64(5, 4 * step + kind) % static_cast<std::uint64_t>(below));
    };
    const int what = pick(0, 10);
    if (what < 7) {
      const int count = what < 4 ? 1 + pick(1, 3) : 1 + pick(1, 3 * page);
      store.append(numbered(end, end + count));
      end += count;
    } else if (what == 7) {
      end -= std::min(end, pick(1, 2 * page));
      store.truncate(end);
    } else {  // a step that fails
      const RangeStore::Mark mark = store.mark();
      store.append(numbered(70000, 70000 + 1 + pick(1, 2 * page)));
      store.go_back(mark);
    }
    REQUIRE(store.end() == end);
    const int first = end == 0 ? 0 : pick(2, end);
    REQUIRE(read(store, first, end) == from_to(first, end));
    const int pages = end == 0 ? 0 : (end - 1) / page;  // before the tail
    CHECK(store.bytes() == (end == 0 ? 0 : bytes_of_pages((pages + 1) / 2 * 2 + 1)));
  }
}

TEST_CASE("a window that begins within a page lets go of whole pages") {
  RangeStore store(plain(), heads, dim, page, page);
  store.start_at(700);
  store.append(numbered(700, 1100));
  CHECK(store.bytes() == bytes_of_pages(3));
  store.drop_before(900);
  CHECK(store.begin() == 768);
  CHECK(store.bytes() == bytes_of_pages(2));
  CHECK(read(store, 768, 1100) == from_to(768, 1100));
}

TEST_CASE("copies of a store share its arrays until one of them changes") {
  RangeStore store(plain(), heads, dim, 4 * page, 2 * page);
  store.append(numbered(0, 700));
  RangeStore copy = store;
  store.append(numbered(700, 1500));
  copy.truncate(300);
  copy.append(numbered(300, 900));
  CHECK(read(store, 0, 1500) == from_to(0, 1500));
  CHECK(read(copy, 0, 900) == from_to(0, 900));
}

TEST_CASE("a decoded token copies its page at most, also where a step under way reads the store") {
  constexpr int long_ago = 12 * page;  // the next page has room in the segment
  RangeStore store(plain(), heads, dim, cache::segment_tokens, cache::segment_growth);
  store.append(numbered(0, long_ago + 1));
  const std::uint64_t all = store.bytes();
  mx::synchronize();
  mx::clear_cache();
  mx::set_cache_limit(0);
  mx::reset_peak_memory();
  const std::uint64_t before = mx::get_active_memory();
  std::optional<mx::array> last;
  for (int token = long_ago + 1; token < long_ago + page + 20; ++token) {
    mx::array sum = mx::zeros({heads, 1, dim});
    for (const tqkv::mlx::Run& run : store.runs(0, token))
      sum = mx::add(sum, mx::sum(tqkv::mlx::tokens_of(*run.arrays, run.from, run.to)[0], 1, true));
    mx::async_eval({sum});
    if (last) last->wait();
    last = sum;
    store.append(numbered(token, token + 1));
  }
  last->wait();
  const auto taken = static_cast<double>(mx::get_peak_memory() - before);
  MESSAGE("a store of " << all << " bytes grew by " << taken << " while it was read");
  CHECK(taken < 0.2 * static_cast<double>(all));
  CHECK(store.end() == long_ago + page + 20);
}
