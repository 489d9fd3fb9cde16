// PrefixTree and PrefixFiles: states that are kept, within their bytes, and over the end of the program.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "cache/accounting.h"
#include "server/prefix/prefix_files.h"
#include "server/prefix/prefix_tree.h"
#include "support/failure.h"
#include "support/reference.h"
#include "support/sessions.h"
#include "support/temporary_directory.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::test;
using namespace tqkv::server;

namespace {

constexpr std::uint64_t plenty = std::uint64_t{1} << 30;

const Engine& engine() {
  return pocket(Precision::fast, {}, 1);
}

KvFormat format() {
  return KvFormat::usual();
}

std::vector<int> beginning(unsigned seed, int shared, int more) {
  std::vector<int> ids = some_ids(1, shared);
  const std::vector<int> own = some_ids(seed, more);
  ids.insert(ids.end(), own.begin(), own.end());
  return ids;
}

/// Computes `ids` from what is kept, keeps the states behind `cuts` and the end, and returns the logits.
std::vector<float> compute(PrefixTree& tree, const std::vector<int>& ids, const std::vector<int>& cuts,
                           int* reused = nullptr) {
  PrefixTree::Match match = tree.find(format(), StateType::f32, ids, false);
  const int from = match.lease.tokens();
  if (reused) *reused = from;
  auto session = tree.open(match.lease, format(), {});
  std::vector<int> ends;
  for (const int cut : cuts)
    if (cut > from) ends.push_back(cut - from);
  std::vector<std::unique_ptr<Snapshot>> kept;
  PrefillOptions options;
  options.pieces = {ends, ends, [&](std::unique_ptr<Snapshot> one) { kept.push_back(std::move(one)); }};
  const auto logits = session->prefill(std::span(ids).subspan(static_cast<std::size_t>(from)), options);
  std::vector<float> copied(logits.begin(), logits.end());
  for (const auto& snapshot : kept) tree.keep(*session, *snapshot, Border::system, match.lease);
  tree.keep(std::move(session), std::move(match.lease));
  return copied;
}

}  // namespace

TEST_CASE(
    "a prompt continues from the longest state that it begins with, with the bits of one that is computed whole") {
  PrefixTree tree(engine(), plenty);
  const std::vector<int> first = beginning(2, 300, 40), second = beginning(3, 300, 60);
  int reused = -1;
  compute(tree, first, {300}, &reused);
  CHECK(reused == 0);
  CHECK(tree.states() == 2);
  PrefixTree fresh(engine(), plenty);
  const auto expected = compute(fresh, second, {300});
  CHECK(compute(tree, second, {300}, &reused) == expected);
  CHECK(reused == 300);
  const PrefixTree::Match match = tree.find(format(), StateType::f32, beginning(2, 300, 41), false);
  CHECK(match.lease.tokens() == 340);
  CHECK(match.parted_at == 340);
  CHECK(tree.find(format(), StateType::f32, beginning(2, 300, 41), true).lease.tokens() == 300);  // exact
  CHECK(tree.find(format(), StateType::f32, first, false).lease.tokens() == 300);  // one id at least is computed
  CHECK(tree.find(KvFormat::of(Backend::baseline), StateType::f32, first, false).lease.tokens() == 0);
  CHECK(tree.find(format(), StateType::bf16, first, false).lease.tokens() == 0);
  CHECK(tree.find(format(), StateType::f32, some_ids(9, 20), false).parted_at == 0);
}

TEST_CASE("what is computed from an answer is not exact, whatever it stands behind, and hides nothing that is") {
  PrefixTree tree(engine(), plenty);
  const std::vector<int> ids = beginning(2, 100, 40);
  compute(tree, std::vector<int>(ids.begin(), ids.begin() + 60), {});  // an answer's end
  int reused = 0;
  compute(tree, ids, {100}, &reused);  // continues from there: keeps 100 and 140
  CHECK(reused == 60);
  const auto longer = beginning(2, 100, 41);
  CHECK(tree.find(format(), StateType::f32, longer, false).lease.tokens() == 140);
  CHECK(tree.find(format(), StateType::f32, longer, true).lease.tokens() == 0);

  const auto session = engine().open(format(), {});
  session->prefill(std::span(ids).first(100));
  PrefixTree::Lease none;
  tree.keep(*session, *session->snapshot(), Border::system, none);
  CHECK(none.tokens() == 100);
  CHECK(tree.find(format(), StateType::f32, longer, true).lease.tokens() == 100);
  const int states = tree.states();
  tree.keep(*session, *session->snapshot(), Border::system, none);
  CHECK(tree.states() == states);
}

TEST_CASE("kept states stay within their bytes, those in use stay, and shared pages count once") {
  PrefixTree alone(engine(), plenty), both(engine(), plenty);
  compute(alone, beginning(2, 600, 10), {});
  compute(both, beginning(2, 600, 10), {600});
  // The second state of the text holds two full pages of the first one.
  const std::uint64_t pages = 2 * 256 * cache::bytes_per_token(engine().config(), format());
  CHECK(both.bytes() < 2 * alone.bytes() - pages + 1);
  CHECK(both.state_bytes() == 2 * alone.state_bytes());

  PrefixTree tree(engine(), 4 * alone.bytes());
  for (unsigned seed = 10; seed < 30; ++seed) {
    compute(tree, beginning(seed, 200, 30 + static_cast<int>(seed)), {200});
    CHECK(tree.bytes() <= tree.budget());
  }
  CHECK(tree.find(format(), StateType::f32, beginning(99, 200, 5), true).lease.tokens() == 200);  // the last to go
  PrefixTree::Match held = tree.find(format(), StateType::f32, beginning(29, 200, 60), false);
  CHECK(held.lease.tokens() == 259);
  while (tree.drop_one()) {
  }
  CHECK(held.lease.tokens() == 259);
  CHECK(tree.states() == 1);  // its pages are its own now
  held.lease = {};
  while (tree.drop_one()) {
  }
  CHECK(tree.states() == 0);
  CHECK(tree.bytes() == 0);
  compute(tree, beginning(2, 200, 30), {200});
  const std::uint64_t before = tree.bytes();
  CHECK(tree.reserve(tree.budget() - before));
  CHECK(tree.bytes() == before);
  CHECK(tree.reserve(1));  // lets something go
  CHECK(tree.bytes() < before);
  CHECK_FALSE(tree.reserve(tree.budget()));
  tree.release();
  PrefixTree none(engine(), 0);
  compute(none, beginning(2, 100, 10), {100});
  CHECK(none.states() == 0);
}

TEST_CASE("kept states outlive the program, and files that are not theirs are named and left alone") {
  const TemporaryDirectory directory;
  const std::filesystem::path folder = directory.path() / "prefixes";
  const std::vector<int> first = beginning(2, 300, 40), second = beginning(3, 300, 60);
  std::vector<std::string> lines;
  const auto log = [&](std::string_view line) { lines.emplace_back(line); };
  std::vector<float> expected;
  {
    PrefixTree tree(engine(), plenty);
    PrefixFiles files(folder, engine(), log);
    files.load(tree);
    compute(tree, first, {300});
    while (files.save_one(tree)) {
    }
    expected = compute(tree, second, {300});
    CHECK(files.save_one(tree));
  }
  const auto count = [&] {
    return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
  };
  CHECK(count() == 3);
  CHECK(lines.empty());
  std::ofstream(folder / "system-0000000000000000.prefix") << "no session";
  std::ofstream(folder / "notes.txt") << "mine";
  {
    PrefixTree tree(engine(), plenty);
    PrefixFiles files(folder, engine(), log);
    files.load(tree);
    CHECK(tree.states() == 3);
    REQUIRE(lines.size() == 1);
    CHECK(contains(lines[0], "system-0000000000000000.prefix is left alone"));
    int reused = 0;
    CHECK(compute(tree, second, {300}, &reused) == expected);
    CHECK(reused == 300);
    while (tree.drop_one()) {
    }
    while (files.save_one(tree)) {
    }
    CHECK(count() == 2);
  }
  std::ofstream(directory.path() / "file") << "x";
  CHECK(contains(failure(ErrorKind::io, [&] { PrefixFiles(directory.path() / "file", engine(), log); }), "file"));
#ifdef __linux__
  CHECK(contains(failure(ErrorKind::io, [&] { PrefixFiles("/proc", engine(), log); }), "/proc/writable"));
#endif
}
