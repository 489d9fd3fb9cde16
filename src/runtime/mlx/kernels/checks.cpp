#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/checksum.h"
#include "base/splitmix64.h"
#include "base/stopwatch.h"
#include "runtime/mlx/kernels/kernels.h"

namespace tqkv::mlx {
namespace {

/// Numbers from -1 to 1, some of them far smaller, as channels of keys are.
mx::array numbers(mx::Shape shape, std::uint64_t seed) {
  std::size_t count = 1;
  for (const int extent : shape) count *= static_cast<std::size_t>(extent);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(splitmix64(seed, i) >> 40) / 8388608.0f - 1.0f;
    values[i] = value * value * value;
  }
  return mx::array(values.begin(), std::move(shape), mx::float32);
}

mx::array signs(int kv_heads, int dim) {
  std::vector<float> values(static_cast<std::size_t>(kv_heads * dim));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = (splitmix64(31, i) >> 63) != 0 ? -1.0f : 1.0f;
  return mx::array(values.begin(), {kv_heads, 1, dim}, mx::float32);
}

double largest(const mx::array& x) {
  const auto value = static_cast<double>(mx::max(mx::abs(mx::astype(x, mx::float32))).item<float>());
  return std::isfinite(value) ? value : std::numeric_limits<double>::infinity();
}

/// The largest difference, over the largest value that was expected.
double relative(const mx::array& expected, const mx::array& found) {
  return largest(mx::subtract(expected, found)) / largest(expected);
}

/// Tokens first..last-1, of keys from whose middle on the scores have a mean added.
double attention(const RunKernel& run, const KernelShape& shape, int first, int last) {
  const auto stored = [&](const SideFormat& format, int spare, std::uint64_t seed) {
    const mx::array x = numbers({shape.kv_heads, last + spare, shape.dim}, seed);
    return StoredSide{format, Codec(format, shape.kv_heads, shape.dim).encode(x)};
  };
  AttentionInput input{numbers({shape.heads, shape.dim}, 41), stored(shape.keys, 3, 42), stored(shape.values, 5, 43),
                       first, last};
  input.mean_scores = numbers({shape.heads}, 44);
  input.mean_from = (first + last) / 2;
  return relative(join({attend_plain(input)}), join({attend(run, input)}));
}

/// Vectors, one of them zeros, encoded twice: the share whose codes differ, and the largest difference of the scalars.
std::pair<double, double> encoding(const RunKernel& run, const SideFormat& format, int kv_heads, int tokens, int dim) {
  mx::array x = numbers({kv_heads, tokens, dim}, 45);
  if (tokens > 1)
    x = mx::concatenate({mx::slice(x, {0, 0, 0}, {kv_heads, tokens - 1, dim}), mx::zeros({kv_heads, 1, dim})}, 1);
  const mx::array d = signs(kv_heads, dim);
  const Payload expected = encode_plain(format, x, d), found = encode(run, format, x, d);
  const mx::array other = mx::any(mx::not_equal(expected[0], found[0]), 2);
  const double share = static_cast<double>(mx::mean(mx::astype(other, mx::float32)).item<float>());
  return {share, relative(mx::astype(expected[1], mx::float32), mx::astype(found[1], mx::float32))};
}

}  // namespace

std::string kernel_text_digest(const KernelShape& shape) {
  const auto stored = [&](const SideFormat& format) {
    return StoredSide{format,
                      Codec(format, shape.kv_heads, shape.dim).encode(numbers({shape.kv_heads, 1, shape.dim}, 1))};
  };
  const AttentionInput input{numbers({shape.heads, shape.dim}, 1), stored(shape.keys), stored(shape.values), 0, 1};
  std::string text;
  const auto add = [&](const KernelCall& call) { text += call.name + call.header + call.source; };
  add(attention_call(input, attention_plan(shape.heads, shape.kv_heads, shape.dim)));
  for (const SideFormat& side : {shape.keys, shape.values})
    if (side.kind == SideFormat::Kind::turboquant)
      add(encode_call(side, numbers({shape.kv_heads, 1, shape.dim}, 1), signs(shape.kv_heads, shape.dim)));
  return checksum_128(std::as_bytes(std::span(text)));
}

std::vector<SelfCheck> kernel_checks(const RunKernel& run, const KernelShape& shape) {
  std::vector<SelfCheck> checks;
  const auto check = [&](std::string name, double limit, const std::function<double()>& measure) {
    const Stopwatch watch;
    SelfCheck one{std::move(name), std::numeric_limits<double>::infinity(), limit, 0, {}};
    try {
      one.difference = measure();
    } catch (const std::exception& error) {  // what a compiler says, for one
      one.error = error.what();
    }
    one.seconds = watch.seconds();
    checks.push_back(std::move(one));
  };
  for (const auto& [first, last] : {std::pair(0, 1), std::pair(5, 42), std::pair(13, 1042)})
    check(fmt::format("attention kernel, keys {}, values {}, {} heads over {}, {} channels, tokens {} to {}",
                      shape.keys.describe(), shape.values.describe(), shape.heads, shape.kv_heads, shape.dim, first,
                      last - 1),
          1e-4, [&, first = first, last = last] { return attention(run, shape, first, last); });
  std::vector<SideFormat> coded;
  for (const SideFormat& side : {shape.keys, shape.values})
    if (side.kind == SideFormat::Kind::turboquant && (coded.empty() || coded.front() != side)) coded.push_back(side);
  for (const SideFormat& side : coded)
    for (const int tokens : {1, 37}) {
      const std::string name = fmt::format("encoding kernel, {}, {} channels, {} vector{}", side.describe(), shape.dim,
                                           tokens * shape.kv_heads, tokens * shape.kv_heads == 1 ? "" : "s");
      double scalars = std::numeric_limits<double>::infinity();
      check(name + ", share of codes that differs", 0.02, [&] {
        const auto [share, apart] = encoding(run, side, shape.kv_heads, tokens, shape.dim);
        scalars = apart;
        return share;
      });
      check(name + ", scalars", 2e-3, [&] { return scalars; });  // two steps of a half
    }
  return checks;
}

AttentionTimes attention_times(const RunKernel& run, const KernelShape& shape, int tokens) {
  const mx::array query = numbers({shape.heads, shape.dim}, 51);
  const mx::array keys = numbers({shape.kv_heads, tokens, shape.dim}, 52);
  const mx::array values = numbers({shape.kv_heads, tokens, shape.dim}, 53);
  const auto best = [](const auto& make) {
    double seconds = std::numeric_limits<double>::infinity();
    for (int trial = 0; trial < 6; ++trial) {  // the first one compiles
      const Stopwatch watch;
      make().eval();
      if (trial > 0) seconds = std::min(seconds, watch.seconds());
    }
    return seconds;
  };
  const auto kernel = [&](const SideFormat& k, const SideFormat& v) {
    const auto stored = [&](const SideFormat& format, const mx::array& x) {
      StoredSide side{format, Codec(format, shape.kv_heads, shape.dim).encode(x)};
      mx::eval(side.payload);
      return side;
    };
    const AttentionInput input{query, stored(k, keys), stored(v, values), 0, tokens};
    return best([&] { return join({attend(run, input)}); });
  };
  const auto in_bf16 = [](const mx::array& x) {
    mx::array made = mx::expand_dims(mx::astype(x, mx::bfloat16), 0);
    made.eval();
    return made;
  };
  const mx::array q = mx::expand_dims(in_bf16(query), 2), k = in_bf16(keys), v = in_bf16(values);
  const SideFormat plain;
  return {kernel(shape.keys, shape.values), kernel(plain, plain),
          best([&] { return mx::fast::scaled_dot_product_attention(q, k, v, 1.0f); })};
}

}  // namespace tqkv::mlx
