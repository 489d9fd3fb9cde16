// The kernels for an NVIDIA card: a check by hand of what the emulator cannot show, lanes that run at once.
// tests/mlx/cuda/check.cu says how.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>

#include "emulator/emulator.h"
#include "emulator/text.h"
#include "kernel_inputs.h"
#include "support/failure.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

std::string type_name(mx::Dtype type) {
  return type == mx::float32    ? "float32"
         : type == mx::uint32   ? "uint32"
         : type == mx::float16  ? "float16"
         : type == mx::bfloat16 ? "bfloat16"
                                : "int32";
}

class Jobs {
 public:
  /// Runs the call in the emulator, whose outputs are what is expected.
  void add(const kernels::KernelCall& call) {
    const std::string text = emulator::as_cuda(emulator::exported(call));
    std::size_t number = 0;
    while (number < texts_.size() && texts_[number] != text) ++number;
    if (number == texts_.size()) texts_.push_back(text);
    std::vector<mx::array> arrays = call.inputs;
    for (const mx::array& made : emulator::emulated()(call)) arrays.push_back(made);
    jobs_ += fmt::format("{} {}", call.name, number);
    for (const int extent : call.grid) jobs_ += fmt::format(" {}", extent);
    for (const int extent : call.group) jobs_ += fmt::format(" {}", extent);
    jobs_ += fmt::format(" {} {}", call.inputs.size(), call.shapes.size());
    std::string bytes;
    for (mx::array& one : arrays) {
      one = mx::contiguous(one);
      one.eval();
      jobs_ += fmt::format(" {} {}", type_name(one.dtype()), one.nbytes());
      bytes.append(reinterpret_cast<const char*>(one.data<std::uint8_t>()), one.nbytes());
    }
    jobs_ += "\n" + bytes;
  }

  std::string source() const {
    std::string source, list = "#define TQKV_KERNELS(X)";
    for (std::size_t i = 0; i < texts_.size(); ++i) {
      source += fmt::format("namespace k{} {{\n{}}}  // namespace k{}\n", i, texts_[i], i);
      list += fmt::format(" X({})", i);
    }
    return source + list + "\n";
  }
  const std::string& jobs() const { return jobs_; }

 private:
  std::vector<std::string> texts_;
  std::string jobs_;
};

void add_attention(Jobs& jobs, int keys, int values, const Shape& shape, int first, int last) {
  kernels::AttentionInput input = attention_input(keys, values, shape, first, last);
  for (kernels::StoredSide* side : {&input.keys, &input.values})
    side->payload = kernels::tokens_of(side->payload, 0, last);
  jobs.add(kernels::attention_call(input, kernels::attention_plan(shape.heads, shape.kv_heads, shape.dim)));
}

void add_encoding(Jobs& jobs, int bits, KvScalar scalar, int tokens, int dim) {
  jobs.add(kernels::encode_call(side_of(bits, scalar), normal_array({2, tokens, dim}, 4), signs_of(2, dim)));
}

}  // namespace

TEST_CASE("the kernels are written as CUDA with their jobs") {
  Jobs jobs;
  add_attention(jobs, 4, 4, {}, 0, 37);
  add_encoding(jobs, 4, KvScalar::corrected, 7, 256);
  add_encoding(jobs, 4, KvScalar::corrected, 3, 256);
  const std::string source = jobs.source();
  CHECK(contains(source, "#define TQKV_KERNELS(X) X(0) X(1)\n"));
  CHECK(contains(source, "__shared__ float key_table[16];"));
  CHECK(contains(source, "static __device__ inline void tqkv_centroids("));
  CHECK(contains(source, "__device__ const float tqkv_key_centroids[16]"));
  CHECK_FALSE(source.find("[[") != std::string::npos);
  const char* folder = std::getenv("TQKV_CUDA_FOLDER");
  if (!folder) {
    MESSAGE("TQKV_CUDA_FOLDER is not set: nothing is written for a card");
    return;
  }
  for (const int keys : {2, 3, 4, 5, 16})
    for (const int values : {2, 3, 4, 5, 16}) add_attention(jobs, keys, values, {}, 3, 300);
  for (const int tokens : {1, 7, 1029, 5003}) add_attention(jobs, 4, 4, {}, 0, tokens);
  for (const Shape& shape :
       std::vector<Shape>{{2, 2, 256}, {4, 1, 128}, {6, 1, 256}, {9, 3, 64}, {68, 2, 64}, {16, 1, 128}})
    add_attention(jobs, 5, 3, shape, 0, 142);
  for (const int bits : {2, 3, 4, 5})
    for (const KvScalar scalar : {KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best})
      for (const int dim : {64, 128, 256}) add_encoding(jobs, bits, scalar, 37, dim);
  std::ofstream(std::string(folder) + "/kernels.inc") << jobs.source();
  std::ofstream(std::string(folder) + "/jobs", std::ios::binary) << jobs.jobs();
}
