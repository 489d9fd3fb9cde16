// What the emulator notices: each barrier that is not there, lanes that do not meet, memory that is not the kernel's.
// And the kernels under sanitizers.
#include <doctest/doctest.h>

#include <cmath>

#include "emulator/emulator.h"
#include "kernel_inputs.h"
#include "support/failure.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

using emulator::Options;

/// `text` with the place of the given number, from 0, where it has `right`, changed.
std::string changed(std::string text, const std::string& right, const std::string& wrong, int number = 0) {
  std::size_t at = text.find(right);
  for (int i = 0; i < number && at != std::string::npos; ++i) at = text.find(right, at + 1);
  REQUIRE(at != std::string::npos);
  return text.replace(at, right.size(), wrong);
}

Options with_mistake(const std::string& right, const std::string& wrong, int number = 0, std::uint64_t seed = 0) {
  return {seed, [=](const std::string& text) { return changed(text, right, wrong, number); }};
}

const std::string barrier = "threadgroup_barrier(mem_flags::mem_threadgroup);";

/// Stores that end with the last token: what is read beyond it is not theirs.
kernels::AttentionInput exact(kernels::AttentionInput input) {
  for (kernels::StoredSide* side : {&input.keys, &input.values})
    side->payload = kernels::tokens_of(side->payload, 0, input.last);
  return input;
}

double difference_with(const kernels::RunKernel& run, const kernels::AttentionInput& input) {
  return difference(kernels::attend_plain(input), kernels::attend(run, input));
}

/// What it throws; empty where it does not.
std::string thrown(const kernels::RunKernel& run, const kernels::AttentionInput& input) {
  try {
    mx::eval(kernels::attend(run, input).values);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("each barrier is needed: some order of lanes gives something else without it") {
  const kernels::AttentionInput input = attention_input(3, 4, {4, 1, 64}, 0, 70);
  const std::string text = kernels::attention_call(input, kernels::attention_plan(4, 1, 64)).source;
  int barriers = 0;
  for (std::size_t at = text.find(barrier); at != std::string::npos; at = text.find(barrier, at + 1)) ++barriers;
  CHECK(barriers == 3);
  for (int number = 0; number < barriers; ++number) {
    CAPTURE(number);
    int noticed = 0;
    for (const std::uint64_t seed : {0, 1, 2, 3, 7, 11}) {
      const double off = difference_with(emulator::emulated(with_mistake(barrier, ";", number, seed)), input);
      noticed += off < 1e-5 ? 0 : 1;  // NaN counts
    }
    MESSAGE("without barrier " << number << ": " << noticed << " of 6 orders are off");
    CHECK(noticed > 0);
  }
}

TEST_CASE("lanes that do not meet are named") {
  const kernels::AttentionInput input = attention_input(3, 4, {4, 1, 64}, 0, 70);
  const std::string half = thrown(emulator::emulated(with_mistake(barrier, "if (lane < 16) " + barrier)), input);
  CHECK(contains(half, "lanes do not meet"));
  CHECK(contains(half, "at threadgroup_barrier in line"));
  CHECK(contains(half, "at simd_sum in line"));
  const std::string gone =
      thrown(emulator::emulated(
                 with_mistake("const float score = simd_sum", "if (lane == 3) return;\n const float score = simd_sum")),
             input);
  CHECK(contains(gone, "at the end"));
  CHECK(contains(gone, "at simd_sum in line"));
}

TEST_CASE("an output that is not written is not a number") {
  const kernels::AttentionInput input = attention_input(3, 4, {4, 1, 64}, 0, 70);
  CHECK(std::isnan(difference_with(emulator::emulated(with_mistake("totals[at] = total[h];", "")), input)));
}

TEST_CASE("the kernels are clean under the address and undefined-behaviour sanitizers") {
  const kernels::RunKernel run = emulator::sanitized("address,undefined", {3, {}});
  CHECK(difference_with(run, exact(attention_input(5, 3, {16, 2, 256}, 11, 48))) < 1e-5);
  CHECK(difference_with(run, exact(attention_input(4, 4, {16, 2, 256}, 0, 300))) < 1e-5);
  CHECK(difference_with(run, exact(attention_input(2, 16, {6, 2, 128}, 0, 37))) < 1e-5);
  CHECK(difference_with(run, exact(attention_input(16, 3, {3, 3, 64}, 2, 9))) < 1e-5);
  for (const int bits : {3, 4, 5}) {
    const mx::array x = normal_array({2, 7, bits == 3 ? 64 : 256}, 9), signs = signs_of(2, x.shape(2));
    const kernels::Payload made = kernels::encode(run, side_of(bits), x, signs);
    const kernels::Codec codec(side_of(bits), 2, x.shape(2));
    CHECK(difference(codec.decode(kernels::encode_plain(side_of(bits), x, signs)), codec.decode(made)) < 0.02);
  }
}

TEST_CASE("the sanitizers see what is read and written beyond an array") {
  const kernels::AttentionInput input = exact(attention_input(4, 4, {2, 1, 256}, 0, 37));
  const auto said = [&](const std::string& right, const std::string& wrong) {
    return thrown(emulator::sanitized("address,undefined", with_mistake(right, wrong)), input);
  };
  CHECK(contains(said("end - 1);\n      const size_t key", "end);\n      const size_t key"), "heap-buffer-overflow"));
  CHECK(contains(said("if (thread_index < 16) key_table[thread_index] = tqkv_key_centroids[thread_index];",
                      "if (thread_index <= 16) key_table[thread_index] = 0.0f;"),
                 "out of bounds"));
}

TEST_CASE("the thread sanitizer finds no race, and one where any barrier is missing") {
  kernels::AttentionInput input = exact(attention_input(3, 4, {4, 1, 64}, 0, 10));
  const kernels::AttentionPlan plan{2, 2, 1, 4};
  const auto run = [&](const Options& options) {
    const std::vector<mx::array> made = emulator::sanitized("thread", options)(kernels::attention_call(input, plan));
    return difference(kernels::attend_plain(input), {made[0], made[1], made[2]});
  };
  CHECK(run({}) < 1e-5);
  for (const int number : {0, 1, 2}) {
    CAPTURE(number);
    std::string problem;
    try {
      run(with_mistake(barrier, ";", number));
    } catch (const std::runtime_error& error) {
      problem = error.what();
    }
    const std::size_t summary = problem.find("SUMMARY: ThreadSanitizer: data race");
    CHECK_MESSAGE(summary != std::string::npos, problem);
    CHECK(contains(problem.substr(std::min(summary, problem.size())), "kernel.metal"));
  }
}
