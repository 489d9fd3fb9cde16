// The text of every kernel is taken by clang with the types of Metal, and planted mistakes are not.
#include <doctest/doctest.h>

#include "emulator/lint.h"
#include "kernel_inputs.h"
#include "support/failure.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

/// False, and said, where there is no clang.
bool can_lint() {
  if (!emulator::has_lint()) MESSAGE("skipped: no clang 14 or later was found when the build was configured");
  return emulator::has_lint();
}

std::string lint(const kernels::KernelCall& call) {
  return emulator::lint(emulator::exported(call), call.group[0] * call.group[1] * call.group[2]);
}

kernels::KernelCall attention(int keys, int values, const Shape& shape = {}, int tokens = 9) {
  return kernels::attention_call(attention_input(keys, values, shape, 0, tokens),
                                 kernels::attention_plan(shape.heads, shape.kv_heads, shape.dim));
}

kernels::KernelCall encoding(int bits, KvScalar scalar, int dim) {
  return kernels::encode_call(side_of(bits, scalar), normal_array({2, 3, dim}, 1), signs_of(2, dim));
}

constexpr std::array widths = {2, 3, 4, 5, 16};

struct Mistake {
  const char* right;
  const char* wrong;
  const char* found;  ///< in what the lint says
};

/// What the lint says where `right` of the text is `wrong`.
std::string planted(const kernels::KernelCall& call, const Mistake& mistake, int threads) {
  emulator::KernelText kernel = emulator::exported(call);
  const std::size_t at = kernel.text.find(mistake.right);
  REQUIRE_MESSAGE(at != std::string::npos, mistake.right);
  kernel.text.replace(at, std::string(mistake.right).size(), mistake.wrong);
  return emulator::lint(kernel, threads);
}

}  // namespace

TEST_CASE("the stubs take what MLX compiles") {
  if (!can_lint()) return;
  CHECK(emulator::lint_header(
            "sdpa_vector.h",
            "auto* one = &sdpa_vector<float, 256>;\nauto* two = &sdpa_vector_2pass_1<bfloat16_t, 256>;\n"
            "auto* three = &sdpa_vector_2pass_2<bfloat16_t, 256>;\n") == "");
  CHECK(emulator::lint_header("gated_delta_update.h",
                              "auto* one = &gated_delta_fused_chunk<float, 128, 128, 16, 32, 8>;\n"
                              "auto* two = &gated_delta_seq<bfloat16_t, 128, 128, 16, 32, 64>;\n") == "");
  CHECK(emulator::lint_header("sdpa_vector.h", "auto* one = &sdpa_vector<float*, 256>;\n") != "");
}

TEST_CASE("the attention kernel passes for every pair of widths, and for every shape") {
  if (!can_lint()) return;
  for (const int keys : widths)
    for (const int values : widths) CHECK(lint(attention(keys, values)) == "");
  for (const Shape& shape :
       std::vector<Shape>{{2, 2, 256}, {4, 1, 128}, {6, 1, 256}, {9, 3, 64}, {68, 2, 64}, {16, 1, 128}})
    CHECK(lint(attention(5, 16, shape)) == "");
  CHECK(lint(attention(2, 4, {2, 1, 64}, 1)) == "");  // arrays in the constant address space
  const kernels::AttentionInput input = attention_input(4, 4, {}, 0, 9);
  for (const kernels::AttentionPlan& plan :
       std::vector<kernels::AttentionPlan>{{1, 8, 1, 2, 1}, {4, 2, 1, 4, 2}, {8, 1, 1, 2, 8}})
    CHECK(lint(kernels::attention_call(input, plan)) == "");
}

TEST_CASE("the encoding kernel passes for every width, scalar and size") {
  if (!can_lint()) return;
  for (const int bits : {2, 3, 4, 5})
    for (const KvScalar scalar : {KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best})
      CHECK(lint(encoding(bits, scalar, 256)) == "");
  for (const int dim : {64, 128}) CHECK(lint(encoding(5, KvScalar::best, dim)) == "");
}

TEST_CASE("a planted mistake is found, and for what it is") {
  if (!can_lint()) return;
  const kernels::KernelCall attend = attention(5, 16), encode = encoding(3, KvScalar::best, 256);
  const auto check = [](const kernels::KernelCall& call, int threads, const std::vector<Mistake>& mistakes) {
    for (const Mistake& one : mistakes) {
      const std::string problem = planted(call, one, threads);
      CHECK_MESSAGE(contains(problem, one.found), one.wrong << ": " << problem);
    }
  };
  CHECK(planted(attend, {"place", "place", ""}, 512) == "");
  check(attend, 512,
        {{"const threadgroup float* table", "const float* table", "a pointer without an address space"},
         {"const threadgroup float* table", "const device float* table",
          "'threadgroup float[32]' to 'device float const"},
         {"key_table, lane,", "channels, lane,", "'float[8]' to 'threadgroup float const"},
         {"const int mean_from = place[5];", "place[5] = 0; const int mean_from = 0;", "read-only"},
         {"sums[h][c] = 0.0f;", "query[c] = 0.0f;", "read-only"},
         {"total[h] = 0.0f;", "total[h] = 0.0f; bfloat16_t rounded = total[h];", "'float' to 'bfloat16_t'"},
         {"min(place[1], begin", "min(place[1], 7u + begin", "'min' is ambiguous"},
         {"float product = 0.0f;", "double product = 0.0f;", "poisoned identifier"},
         {"float product = 0.0f;", "float product = 0.1;", "'double' to 'float'"},
         {"= place[5];", "= [](int x) { return x; }(place[5]);", "a lambda"},
         {"simd_sum(product)", "simd_total(product)", "undeclared identifier 'simd_total'"},
         {"mem_flags::mem_threadgroup", "mem_flags::mem_group", "no member named 'mem_group'"},
         {"(simdgroup_index_in_threadgroup)", "(simdgroups_per_threadgroup)", "undeclared identifier"},
         {"scores[tqkv_heads_each]", "scores[lane + 1]", "variable length array"},
         {"shared_sums[tqkv_slots * tqkv_dim]", "shared_sums[tqkv_slots * tqkv_dim * 2]", "33024 bytes of threadgroup"},
         {"constexpr int low", "if constexpr (bits > 3) {}\n  constexpr int low", "C++17 extension"},
         {"const int mean_from", "const int other = 0;\n  const int mean_from", "unused variable"}});
  check(encode, 256,
        {{"device uint* words) {", "threadgroup uint* words) {", "address space '1' as a pointer to address space '3'"},
         {"device uint* words = codes", "uint* words = codes", "a pointer without an address space"},
         {"static_cast<half>(norm", "static_cast<device half*>(norm", "cannot cast from type 'float'"},
         {"simd_shuffle_xor(y[c],", "simd_shuffle_xor(y,", "no matching function for call to 'simd_shuffle_xor'"},
         {"codes + at *", "scalars + at *", "cannot initialize a variable of type 'device uint *'"}});
  CHECK(contains(planted(attend, {"place", "place", ""}, 1056), "1056 threads"));
}
