#include "random_tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string_view>

#include "base/float16.h"
#include "base/splitmix64.h"
#include "tqkv/error.h"

namespace tqkv::tools {
namespace {

std::uint64_t key_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char letter : name) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3u;
  return splitmix64_mix(splitmix64_mix(seed + splitmix64_step) ^ hash);
}

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::string without(const std::string& name, std::string_view end) {
  return name.substr(0, name.size() - end.size());
}

/// The middle of part `index` of `parts` equal ones of [low, high].
double spread(int index, int parts, double low, double high) {
  return low + (high - low) * (index + 0.5) / parts;
}

std::uint32_t bits_of(DType dtype, double value) {
  const auto narrow = static_cast<float>(value);
  return dtype == DType::f32 ? std::bit_cast<std::uint32_t>(narrow) : f32_to_bf16(narrow);
}

class Maker {
 public:
  Maker(const ModelConfig& config, std::uint64_t seed) : config_(config), seed_(seed) {}

  RandomTensor plain(const ExpectedTensor& expected) const {
    RandomTensor made = begin(expected, expected.name);
    const auto fill_table = [&](auto value_of) {
      for (int i = 0; i < 256; ++i) made.table[static_cast<std::size_t>(i)] = bits_of(expected.dtype, value_of(i));
    };
    const auto uniform = [&](double deviation) {
      fill_table([&](int i) { return spread(i, 256, -1, 1) * deviation * std::sqrt(3.0); });
    };
    if (ends_with(expected.name, "A_log")) {
      fill_table([](int i) { return std::log(spread(i, 256, 1, 16)); });
    } else if (ends_with(expected.name, "dt_bias")) {
      fill_table([](int i) {
        const double step = std::exp(spread(i, 256, std::log(0.001), std::log(0.1)));
        return step + std::log(-std::expm1(-step));
      });
    } else if (ends_with(expected.name, "conv1d.weight")) {
      uniform(1 / std::sqrt(static_cast<double>(config_.linear_conv_kernel_dim)));
    } else if (ends_with(expected.name, "norm.weight")) {
      fill_table([](int i) { return spread(i, 256, 0.9, 1.1); });
    } else {
      uniform(deviation_of(without(expected.name, ".weight"), static_cast<double>(expected.shape.back())));
    }
    return made;
  }

  /// Weight, scales and biases of one module.
  void quantized(std::span<const ExpectedTensor> parts, std::vector<RandomTensor>& made) const {
    const ExpectedTensor &weight = parts[0], &scales = parts[1], &biases = parts[2];
    const auto inputs = static_cast<double>(scales.shape.back() * Matrix::group);
    const double levels = std::exp2(32.0 * static_cast<double>(weight.shape.back()) / inputs);
    const double deviation = deviation_of(without(weight.name, ".weight"), inputs);
    const double scale = deviation / std::sqrt((levels * levels - 1) / 12);  // of indices uniform in 0 .. levels - 1

    RandomTensor packed = begin(weight, weight.name);
    packed.width = 1;
    RandomTensor scale_of = begin(scales, scales.name), bias_of = begin(biases, scales.name);
    for (int i = 0; i < 256; ++i) {
      const double sign = i % 2 == 0 ? 1 : -1;
      const std::uint16_t stored = f32_to_bf16(static_cast<float>(sign * scale * spread(i / 2, 128, 0.95, 1.05)));
      scale_of.table[static_cast<std::size_t>(i)] = stored;
      bias_of.table[static_cast<std::size_t>(i)] = bits_of(DType::bf16, -bf16_to_f32(stored) * (levels - 1) / 2);
    }
    made.push_back(std::move(packed));
    made.push_back(std::move(scale_of));
    made.push_back(std::move(bias_of));
  }

 private:
  RandomTensor begin(const ExpectedTensor& expected, std::string_view key_name) const {
    return {expected, key_of(seed_, key_name), size_of(expected.dtype), {}};
  }

  double deviation_of(const std::string& module, double inputs) const {
    const double stream = config_.tie_word_embeddings ? 1 / std::sqrt(static_cast<double>(config_.hidden_size)) : 1;
    if (ends_with(module, "embed_tokens")) return stream;
    const bool residual =
        ends_with(module, "o_proj") || ends_with(module, "out_proj") || ends_with(module, "down_proj");
    return (residual ? stream / std::sqrt(2.0 * config_.num_layers()) : 1) / std::sqrt(inputs);
  }

  const ModelConfig& config_;
  std::uint64_t seed_;
};

}  // namespace

void RandomTensor::fill(std::uint64_t offset, std::span<std::byte> bytes) const {
  std::uint64_t counter = key + offset / (8 * width) * splitmix64_step;
  std::byte* to = bytes.data();
  const auto each_word = [&](std::size_t block, auto write) {
    std::size_t left = bytes.size();
    for (; left >= block; left -= block, to += block) write(to, splitmix64_mix(counter += splitmix64_step));
    if (left == 0) return;
    std::array<std::byte, 32> last;
    write(last.data(), splitmix64_mix(counter + splitmix64_step));
    std::memcpy(to, last.data(), left);
  };
  if (width == 1) return each_word(8, [](std::byte* at, std::uint64_t word) { store(at, word); });
  if (width == 2)
    return each_word(16, [this](std::byte* at, std::uint64_t word) {
      for (std::size_t i = 0; i < 8; ++i) store(at + 2 * i, static_cast<std::uint16_t>(table[word >> 8 * i & 255]));
    });
  each_word(32, [this](std::byte* at, std::uint64_t word) {
    for (std::size_t i = 0; i < 8; ++i) store(at + 4 * i, table[word >> 8 * i & 255]);
  });
}

std::vector<RandomTensor> random_tensors(const ModelConfig& config, std::uint64_t seed) {
  const Maker maker(config, seed);
  const std::vector<ExpectedTensor> expected = expected_tensors(config);
  std::vector<RandomTensor> made;
  made.reserve(expected.size());
  for (std::size_t i = 0; i < expected.size();) {
    if (expected[i].dtype != DType::u32) {
      made.push_back(maker.plain(expected[i++]));
      continue;
    }
    if (i + 2 >= expected.size() || !ends_with(expected[i + 1].name, ".scales") ||
        !ends_with(expected[i + 2].name, ".biases"))
      throw Error(ErrorKind::internal, fmt::format("{}: scales and biases do not follow it", expected[i].name));
    maker.quantized(std::span(expected).subspan(i, 3), made);
    i += 3;
  }
  return made;
}

}  // namespace tqkv::tools
