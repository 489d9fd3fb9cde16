// Outside truth: tensors that another implementation computed, read from a safetensors file; and the loaded pocket
// model.
#pragma once
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tqkv/engine.h"

namespace tqkv::test {

struct Array {
  std::vector<std::int64_t> shape;
  std::vector<float> values;  // F32, F16 and I32 alike
  std::vector<int> ints() const { return {values.begin(), values.end()}; }
};

std::map<std::string, Array> read_arrays(const std::filesystem::path& file);
/// tests/golden/pocket-reference.safetensors: what transformers computes for the pocket model in float32.
const std::map<std::string, Array>& pocket_reference();
std::filesystem::path pocket_directory();

/// The CPU with these keys: none where the instruction set is empty, where threads are 0.
Device cpu_device(const std::string& isa, int threads);

/// The pocket model, loaded once a program for each (precision, isa, threads).
const Engine& pocket(Precision precision, const std::string& isa = {}, int threads = 0);

struct Agreement {
  double mean_kl = 0, median_kl = 0, p99_kl = 0, max_kl = 0;  // nats, KL(reference || model) of each row
  double same_top = 0;                                        // share of the rows with the same argmax
  int rows = 0;
};
/// Rows of logits [rows, vocab] against each other.
Agreement compare(std::span<const float> reference, std::span<const float> model, int vocab);
double kl_divergence(std::span<const float> reference, std::span<const float> model);
int argmax(std::span<const float> logits);

/// Logits [rows, vocab] of the last `last` ids.
std::vector<float> last_logits(const Engine& engine, const KvFormat& format, std::span<const int> ids, int last,
                               const SessionOptions& options = {});
/// `count` greedy tokens after `ids`.
std::vector<int> greedy(const Engine& engine, const KvFormat& format, std::span<const int> ids, int count,
                        const SessionOptions& options = {});

}  // namespace tqkv::test
