// The attention kernel, run by the emulator from the text that Metal gets, against plain operations.
#include <doctest/doctest.h>

#include "emulator/emulator.h"
#include "kernel_inputs.h"
#include "support/failure.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

constexpr double rounding = 1e-5;
constexpr std::array widths = {2, 3, 4, 5, 16};

double emulated_difference(const kernels::AttentionInput& input, std::uint64_t seed = 3) {
  return difference(kernels::attend_plain(input), kernels::attend(emulator::emulated({.seed = seed}), input));
}

}  // namespace

TEST_CASE("attention over codes of every pair of widths is that of plain operations") {
  for (const int keys : widths)
    for (const int values : widths) {
      CAPTURE(keys);
      CAPTURE(values);
      CHECK(emulated_difference(attention_input(keys, values, {}, 0, 300)) < rounding);
    }
}

TEST_CASE("it is for numbers of tokens that divide nothing, from the first token or a later one on") {
  for (const auto& [first, last] : std::vector<std::pair<int, int>>{{0, 1}, {0, 7}, {0, 37}, {41, 341}, {13, 1042}}) {
    CAPTURE(first);
    CAPTURE(last);
    CHECK(emulated_difference(attention_input(4, 4, {}, first, last), static_cast<std::uint64_t>(last)) < rounding);
    CHECK(emulated_difference(attention_input(5, 3, {}, first, last), static_cast<std::uint64_t>(last)) < rounding);
  }
}

TEST_CASE("it is for every number of heads and channels") {
  for (const Shape& shape : std::vector<Shape>{{2, 2, 256},  // a query head for each KV head
                                               {4, 2, 256},
                                               {4, 1, 128},
                                               {6, 1, 256},
                                               {9, 3, 64},  // an odd group
                                               {8, 1, 64},
                                               {16, 1, 128},
                                               {68, 2, 64}}) {  // more heads than one threadgroup takes
    for (const auto& [keys, values] : std::vector<std::pair<int, int>>{{4, 4}, {5, 3}, {16, 2}}) {
      CAPTURE(shape.heads);
      CAPTURE(shape.kv_heads);
      CAPTURE(shape.dim);
      CAPTURE(keys);
      CHECK(emulated_difference(attention_input(keys, values, shape, 5, 142)) < rounding);
    }
  }
}

TEST_CASE("heads of a simdgroup and runs of a threadgroup can be others") {
  const kernels::AttentionInput input = attention_input(4, 3, {}, 3, 290);
  for (const kernels::AttentionPlan& plan : std::vector<kernels::AttentionPlan>{
           {1, 8, 1, 1, 1}, {1, 8, 1, 2, 8}, {4, 2, 1, 4, 2}, {2, 2, 2, 4, 4}, {8, 1, 1, 2, 3}}) {
    CAPTURE(plan.heads_each);
    CAPTURE(plan.runs);
    const std::vector<mx::array> made = emulator::emulated({.seed = 3})(kernels::attention_call(input, plan));
    CHECK(difference(kernels::attend_plain(input), {made[0], made[1], made[2]}) < rounding);
  }
}

TEST_CASE("any order of lanes gives the same bits") {
  const kernels::AttentionInput input = attention_input(4, 4, {}, 0, 150);
  const kernels::Partial first = kernels::attend(emulator::emulated(), input);
  for (const std::uint64_t seed : {1, 2, 3, 7}) {
    const kernels::Partial again = kernels::attend(emulator::emulated({.seed = seed}), input);
    CHECK(mx::array_equal(first.values, again.values).item<bool>());
    CHECK(mx::array_equal(first.maximum, again.maximum).item<bool>());
    CHECK(mx::array_equal(first.sum, again.sum).item<bool>());
  }
}

TEST_CASE("scores of tokens behind the mean have theirs added") {
  kernels::AttentionInput input = attention_input(4, 4, {4, 2, 128}, 2, 90);
  const kernels::Partial without = kernels::attend_plain(input);
  input.mean_scores = mx::array({1.5f, -0.5f, 3.0f, 0.25f});
  input.mean_from = 40;
  CHECK(difference(without, kernels::attend_plain(input)) > 0.01);
  CHECK(emulated_difference(input) < rounding);
  input.mean_from = 0;  // the same for all: softmax does not see it
  CHECK(difference(without, kernels::attend_plain(input)) < rounding);
  CHECK(emulated_difference(input) < rounding);
}

TEST_CASE("parts of the tokens join to the whole") {
  const kernels::AttentionInput whole = attention_input(4, 16, {}, 0, 333);
  std::vector<kernels::Partial> parts;
  for (const auto& [first, last] : std::vector<std::pair<int, int>>{{0, 1}, {1, 270}, {270, 333}}) {
    kernels::AttentionInput part = whole;
    part.first = first;
    part.last = last;
    parts.push_back(first == 1 ? kernels::attend(emulator::emulated(), part) : kernels::attend_plain(part));
  }
  CHECK(difference(kernels::join({kernels::attend_plain(whole)}), kernels::join(parts)) < rounding);
}

TEST_CASE("scores as large as they come do not overflow") {
  for (const float size : {1e4f, 1e15f}) {
    kernels::AttentionInput input = attention_input(4, 4, {}, 0, 37);
    input.query = normal_array({16, 256}, 3, size);
    CHECK(emulated_difference(input) < 1e-3);
  }
}

TEST_CASE("a store of fewer than 8 numbers is another address space for Metal") {
  kernels::AttentionInput input = attention_input(2, 4, {2, 1, 64}, 0, 1);
  for (kernels::StoredSide* side : {&input.keys, &input.values})
    side->payload = kernels::tokens_of(side->payload, 0, 1);
  CHECK(emulated_difference(input) < rounding);
}

TEST_CASE("what the kernel does not have is refused") {
  CHECK(kernels::has_kernel(side_of(3), side_of(16), 16, 2, 256));
  SideFormat affine;
  affine.kind = SideFormat::Kind::affine;
  affine.bits = 4;
  affine.group = 64;
  CHECK_FALSE(kernels::has_kernel(side_of(3), affine, 16, 2, 256));
  SideFormat f32;
  f32.bits = 32;
  CHECK_FALSE(kernels::has_kernel(f32, side_of(3), 16, 2, 256));
  CHECK_FALSE(kernels::has_kernel(side_of(3), side_of(3), 16, 2, 96));
  kernels::AttentionInput input = attention_input(4, 4, {}, 0, 7);
  input.last = 11;  // beyond the capacity of the keys
  CHECK_THROWS_AS(kernels::attend(emulator::emulated(), input), Error);
}
