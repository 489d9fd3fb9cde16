#include "runtime/mlx/self_test.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/splitmix64.h"
#include "base/stopwatch.h"
#include "codec/side_codec.h"
#include "runtime/mlx/codec.h"
#include "runtime/mlx/delta_rule.h"
#include "runtime/mlx/device.h"
#include "runtime/mlx/kept_results.h"
#include "tqkv/error.h"

namespace tqkv::mlx {
namespace {

constexpr const char* passed_result = "operations";

/// Numbers from -1 to 1.
std::vector<float> numbers(std::size_t count, std::uint64_t seed) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(splitmix64(seed, i) >> 40) / 8388608.0f - 1.0f;
  return values;
}

mx::array of(const std::vector<float>& values, mx::Shape shape) {
  return mx::array(values.begin(), std::move(shape), mx::float32);
}

mx::array computed(const mx::array& lazy) {
  mx::array made = mx::contiguous(mx::astype(lazy, mx::float32));
  made.eval();
  return made;
}

/// The largest difference that was seen, and the largest value that was expected.
struct Largest {
  double difference = 0, value = 0;
  void take(double expected, double found) {
    const double apart = std::abs(expected - found);
    difference = std::isfinite(apart) ? std::max(difference, apart) : INFINITY;
    value = std::max(value, std::abs(expected));
  }
  double relative() const { return value > 0 ? difference / value : INFINITY; }
};

// ---- products

struct Sample {
  int row, out;
};

std::vector<Sample> samples(int rows, int out) {
  std::vector<Sample> all{{0, 0}, {rows - 1, out - 1}, {rows - 1, 0}, {0, out - 1}};
  for (std::uint64_t i = 0; i < 252; ++i)
    all.push_back({static_cast<int>(splitmix64(11, 2 * i) % static_cast<std::uint64_t>(rows)),
                   static_cast<int>(splitmix64(11, 2 * i + 1) % static_cast<std::uint64_t>(out))});
  return all;
}

double packed_product(const Operations& operations, int rows, int out, int in) {
  const auto groups = static_cast<std::size_t>(out) * static_cast<std::size_t>(in / 64);
  const std::vector<float> x = numbers(static_cast<std::size_t>(rows) * static_cast<std::size_t>(in), 1);
  std::vector<float> scales = numbers(groups, 2), biases = numbers(groups, 3);
  std::vector<std::uint32_t> words(static_cast<std::size_t>(out) * static_cast<std::size_t>(in / 8));
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint32_t>(splitmix64(4, i));
  const mx::array y =
      computed(operations.product(of(x, {rows, in}), mx::array(words.begin(), {out, in / 8}, mx::uint32),
                                  of(scales, {out, in / 64}), of(biases, {out, in / 64})));
  Largest largest;
  for (const Sample& sample : samples(rows, out)) {
    double sum = 0;
    for (int c = 0; c < in; ++c) {
      const auto at = static_cast<std::size_t>(sample.out) * static_cast<std::size_t>(in) + static_cast<std::size_t>(c);
      const double code = words[at / 8] >> (4 * (at % 8)) & 15u;
      const double weight = static_cast<double>(scales[at / 64]) * code + static_cast<double>(biases[at / 64]);
      sum += weight *
             static_cast<double>(
                 x[static_cast<std::size_t>(sample.row) * static_cast<std::size_t>(in) + static_cast<std::size_t>(c)]);
    }
    largest.take(sum, static_cast<double>(y.data<float>()[sample.row * out + sample.out]));
  }
  return largest.relative();
}

double plain_product(const Operations& operations, int rows, int out, int in) {
  const std::vector<float> x = numbers(static_cast<std::size_t>(rows) * static_cast<std::size_t>(in), 5),
                           w = numbers(static_cast<std::size_t>(out) * static_cast<std::size_t>(in), 6);
  const mx::array y = computed(operations.plain_product(of(x, {rows, in}), of(w, {out, in})));
  Largest largest;
  for (const Sample& sample : samples(rows, out)) {
    double sum = 0;
    for (int c = 0; c < in; ++c)
      sum += static_cast<double>(
                 x[static_cast<std::size_t>(sample.row) * static_cast<std::size_t>(in) + static_cast<std::size_t>(c)]) *
             static_cast<double>(
                 w[static_cast<std::size_t>(sample.out) * static_cast<std::size_t>(in) + static_cast<std::size_t>(c)]);
    largest.take(sum, static_cast<double>(y.data<float>()[sample.row * out + sample.out]));
  }
  return largest.relative();
}

// ---- attention

double attention(const Operations& operations, int heads, int kv, int tokens) {
  constexpr int dim = 256;
  const auto size = [&](int n) { return static_cast<std::size_t>(n) * static_cast<std::size_t>(tokens) * dim; };
  const std::vector<float> q = numbers(size(heads), 7), k = numbers(size(kv), 8), v = numbers(size(kv), 9);
  const float scale = 0.25f;
  const mx::array out = computed(
      operations.attention(of(q, {heads, tokens, dim}), of(k, {kv, tokens, dim}), of(v, {kv, tokens, dim}), scale));
  Largest largest;
  for (int head = 0; head < heads; ++head) {
    for (const int query : {0, tokens / 3, tokens / 2 + 1, tokens - 1}) {
      const float* own = q.data() + size(head) + static_cast<std::size_t>(query) * dim;
      const std::size_t from = size(head / (heads / kv));
      std::vector<double> weight(static_cast<std::size_t>(query) + 1);
      double most = -INFINITY, sum = 0;
      for (std::size_t key = 0; key < weight.size(); ++key) {
        for (std::size_t c = 0; c < dim; ++c)
          weight[key] += static_cast<double>(own[c]) * static_cast<double>(k[from + key * dim + c]);
        weight[key] *= static_cast<double>(scale);
        most = std::max(most, weight[key]);
      }
      for (double& one : weight) sum += one = std::exp(one - most);
      for (std::size_t c = 0; c < dim; c += 37) {
        double expected = 0;
        for (std::size_t key = 0; key < weight.size(); ++key)
          expected += weight[key] / sum * static_cast<double>(v[from + key * dim + c]);
        largest.take(expected,
                     static_cast<double>(out.data<float>()[size(head) + static_cast<std::size_t>(query) * dim + c]));
      }
    }
  }
  return largest.relative();
}

// ---- the delta rule

// `repeated`: keys that are nearly the same, as those of repeated words are, and hardly any decay.
double delta(const Operations& operations, int tokens, bool repeated) {
  constexpr int key_heads = 2, value_heads = 4, dim = 128;
  const auto rows = static_cast<std::size_t>(tokens);
  std::vector<float> q = numbers(rows * key_heads * dim, 12), k = numbers(rows * key_heads * dim, 13);
  const std::vector<float> v = numbers(rows * value_heads * dim, 14);
  std::vector<float> log_g = numbers(rows * value_heads, 15), beta = numbers(rows * value_heads, 16);
  for (float& value : q) value /= 11.3f;  // lengths near 1
  for (float& value : k) value /= 6.5f;
  for (float& value : log_g) value = -0.05f * (value + 1.0f);
  for (float& value : beta) value = 0.5f + 0.5f * value;
  if (repeated) {
    constexpr std::size_t row = key_heads * dim;
    for (std::size_t i = row; i < k.size(); ++i) k[i] = k[i % row] + 0.01f * k[i];
    for (float& value : log_g) value *= 0.01f;
    for (float& value : beta) value = 0.9f + 0.1f * value;
  }
  const mx::array out = computed(operations.delta_rule(
      of(q, {tokens, key_heads, dim}), of(k, {tokens, key_heads, dim}), of(v, {tokens, value_heads, dim}),
      of(log_g, {tokens, value_heads}), of(beta, {tokens, value_heads})));
  Largest largest;
  for (std::size_t head = 0; head < value_heads; ++head) {
    std::vector<double> s(static_cast<std::size_t>(dim) * dim);  // [value, key]
    for (std::size_t t = 0; t < rows; ++t) {
      const std::size_t key = (t * key_heads + head / (value_heads / key_heads)) * dim;
      const double g = std::exp(static_cast<double>(log_g[t * value_heads + head]));
      for (std::size_t r = 0; r < dim; ++r) {
        double* row = s.data() + r * dim;
        double read = 0, answer = 0;
        for (std::size_t c = 0; c < dim; ++c) read += row[c] * static_cast<double>(k[key + c]);
        const std::size_t at = (t * value_heads + head) * dim + r;
        const double change =
            static_cast<double>(beta[t * value_heads + head]) * (static_cast<double>(v[at]) - g * read);
        for (std::size_t c = 0; c < dim; ++c) {
          row[c] = g * row[c] + change * static_cast<double>(k[key + c]);
          answer += row[c] * static_cast<double>(q[key + c]);
        }
        largest.take(answer, static_cast<double>(out.data<float>()[at]));
      }
    }
  }
  return largest.relative();
}

// ---- codes

// Against the scalar codec: the share of vectors whose decoded channels differ.
double codes(const SideFormat& format) {
  constexpr int dim = 256, vectors = 100;
  const std::vector<float> x = numbers(static_cast<std::size_t>(vectors) * dim, 17);
  const Codec own(format, 1, dim);
  const mx::array bytes = own.to_bytes(own.encode(of(x, {1, vectors, dim})));
  const codec::SideCodec scalar = codec::side_codec(format, dim);
  std::vector<std::byte> expected(scalar.vector_bytes());
  int different = 0;
  for (std::size_t i = 0; i < vectors; ++i) {
    codec::encode(scalar, std::span(x).subspan(i * dim, dim), expected.data(), expected.data() + scalar.code_bytes);
    different += std::equal(expected.begin(), expected.end(), bytes.data<std::byte>() + i * expected.size()) ? 0 : 1;
  }
  return static_cast<double>(different) / vectors;
}

}  // namespace

Operations operations() {
  return {
      [](const mx::array& x, const mx::array& words, const mx::array& scales, const mx::array& biases) {
        return mx::quantized_matmul(x, words, scales, biases, true, 64, 4);
      },
      [](const mx::array& x, const mx::array& w) { return mx::matmul(x, mx::transpose(w)); },
      [](const mx::array& q, const mx::array& k, const mx::array& v, float scale) {
        return mx::squeeze(mx::fast::scaled_dot_product_attention(mx::expand_dims(q, 0), mx::expand_dims(k, 0),
                                                                  mx::expand_dims(v, 0), scale, "causal"),
                           0);
      },
      [](const mx::array& q, const mx::array& k, const mx::array& v, const mx::array& log_g, const mx::array& beta) {
        mx::array state = mx::zeros({v.shape(1), v.shape(2), k.shape(2)});
        return delta_rule(q, k, v, log_g, beta, state);
      }};
}

std::vector<SelfCheck> self_test(const Operations& operations) {
  std::vector<SelfCheck> checks;
  const auto check = [&](std::string name, double limit, const std::function<double()>& measure) {
    const Stopwatch watch;
    SelfCheck one{std::move(name), 0, limit, 0};
    one.difference = measure();
    one.seconds = watch.seconds();
    checks.push_back(std::move(one));
  };
  // A product was right at 256 rows and wrong at 1,024 on a machine. The processor computes a small one in the time.
  const int rows = on_processor() ? 33 : 1024, size = on_processor() ? 512 : 2048;
  check(fmt::format("4-bit product, {} x {} x {}", rows, size, size), 1e-4,
        [&] { return packed_product(operations, rows, size, size); });
  check(fmt::format("product, {} x {} x {}", rows, size, size), 1e-4,
        [&] { return plain_product(operations, rows, size, size); });
  const int queries = on_processor() ? 110 : 1100;
  check(fmt::format("attention, {} queries of 256 channels", queries), 1e-4,
        [&] { return attention(operations, 4, 2, queries); });
  for (const int tokens : {1, 7, 67})
    check(fmt::format("delta rule, {} token{}", tokens, tokens == 1 ? "" : "s"), 1e-4,
          [&] { return delta(operations, tokens, false); });
  check("delta rule, 67 tokens whose keys repeat", 1e-4, [&] { return delta(operations, 67, true); });
  SideFormat turboquant, affine;
  turboquant.kind = SideFormat::Kind::turboquant;
  turboquant.bits = 4;
  turboquant.scalar = KvScalar::corrected;
  affine.kind = SideFormat::Kind::affine;
  affine.bits = 4;
  affine.group = 64;
  check("codes of turboquant, share that differs", 0.02, [&] { return codes(turboquant); });
  check("codes of mlx_quant, share that differs", 0.02, [&] { return codes(affine); });
  return checks;
}

std::string problem_of(const std::vector<SelfCheck>& checks) {
  std::string problem;
  for (const SelfCheck& one : checks) {
    if (one.passed()) continue;
    problem += fmt::format("{}{}: ", problem.empty() ? "" : "; ", one.name);
    problem += one.error.empty() ? fmt::format("off by {:.2g}, at most {:.2g} is rounding", one.difference, one.limit)
                                 : one.error;
  }
  return problem;
}

std::string require_self_test(bool force) {
  if (has_result(passed_result)) return {};
  std::string problem = problem_of(self_test(operations()));
  if (problem.empty()) {
    keep_result(passed_result);
  } else if (!force) {
    throw Error(
        ErrorKind::internal,
        fmt::format("mlx: the self-test failed, so nothing runs here ({}): 'tqkv doctor' shows every check; use "
                    "--device cpu, or --force it",
                    problem));
  }
  return problem;
}

}  // namespace tqkv::mlx
