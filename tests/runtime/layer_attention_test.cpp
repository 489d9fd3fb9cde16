// One layer's cache, fed from outside: what its queries see, and what a mean of keys makes of keys with a constant
// part.
#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "runtime/cpu/layer_attention.h"
#include "support/failure.h"
#include "tqkv/error.h"

using namespace tqkv;
using cpu::CpuLayerAttention;

namespace {

constexpr LayerShape shape{8, 2, 64, 0.125f};
constexpr int row = shape.kv_heads * shape.head_dim;
constexpr int query_row = shape.heads * shape.head_dim;

std::vector<float> normal(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

struct Text {
  explicit Text(int a_tokens, unsigned seed = 1)
      : tokens(a_tokens),
        keys(normal(static_cast<std::size_t>(tokens * row), seed)),
        values(normal(static_cast<std::size_t>(tokens * row), seed + 1)),
        query(normal(query_row, seed + 2)) {}
  void add_to_keys(const std::vector<float>& constant) {
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] += constant[i % constant.size()];
  }
  int tokens;
  std::vector<float> keys, values, query;
};

DeviceOptions device(Precision precision) {
  DeviceOptions options;
  options.precision = precision;
  options.device = Device::parse("cpu:threads=1");
  return options;
}

/// Output of the last token's query; fed in chunks.
std::vector<float> output(const Text& text, const std::string& format, Precision precision = Precision::f32,
                          int oldest = 0, std::size_t chunk = 1 << 20) {
  CpuLayerAttention layer(shape, KvFormat::parse(format), 3, 0, 1, device(precision));
  for (std::size_t at = 0; at < text.keys.size();) {
    const std::size_t count = std::min(chunk * row, text.keys.size() - at);
    layer.feed(std::span(text.keys).subspan(at, count), std::span(text.values).subspan(at, count));
    at += count;
  }
  std::vector<float> out(query_row);
  layer.attend(text.query, oldest, out);
  return out;
}

struct Head {
  std::vector<float> keys, values;
};
/// softmax(q·k scale) v in double, over keys and values [n, head_dim] of each KV head.
std::vector<float> exact(const std::vector<float>& query, const std::vector<Head>& heads) {
  std::vector<float> out(query_row);
  for (int h = 0; h < shape.heads; ++h) {
    const auto& seen = heads[static_cast<std::size_t>(h / (shape.heads / shape.kv_heads))];
    const auto dim = static_cast<std::size_t>(shape.head_dim), n = seen.keys.size() / dim;
    const float* q = query.data() + static_cast<std::size_t>(h) * dim;
    std::vector<double> scores(n);
    for (std::size_t t = 0; t < n; ++t)
      for (std::size_t c = 0; c < dim; ++c)
        scores[t] += static_cast<double>(q[c]) * static_cast<double>(seen.keys[t * dim + c]) * shape.scale;
    const double most = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& score : scores) sum += score = std::exp(score - most);
    for (std::size_t c = 0; c < dim; ++c) {
      double value = 0;
      for (std::size_t t = 0; t < n; ++t) value += scores[t] * static_cast<double>(seen.values[t * dim + c]);
      out[static_cast<std::size_t>(h) * dim + c] = static_cast<float>(value / sum);
    }
  }
  return out;
}

/// As exact, of keys and values as they were fed.
std::vector<float> uncompressed(const Text& text) {
  std::vector<Head> heads(static_cast<std::size_t>(shape.kv_heads));
  for (int t = 0; t < text.tokens; ++t)
    for (int h = 0; h < shape.kv_heads; ++h) {
      const auto at = static_cast<std::ptrdiff_t>(t * row + h * shape.head_dim);
      auto& seen = heads[static_cast<std::size_t>(h)];
      seen.keys.insert(seen.keys.end(), text.keys.begin() + at, text.keys.begin() + at + shape.head_dim);
      seen.values.insert(seen.values.end(), text.values.begin() + at, text.values.begin() + at + shape.head_dim);
    }
  return exact(text.query, heads);
}

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / size);
}

/// A constant of 40 times the noise in a few channels of each head, as real keys have them.
std::vector<float> large_constant() {
  std::vector<float> constant(row);
  for (int h = 0; h < shape.kv_heads; ++h)
    for (const int c : {3, 17, 40, 41})
      constant[static_cast<std::size_t>(h * shape.head_dim + c)] = c % 2 ? 40.0f : -40.0f;
  return constant;
}

const std::vector<std::string> formats{"baseline",
                                       "turboquant",
                                       "turboquant:window=50:sink=3",
                                       "turboquant:mean=16",
                                       "turboquant:mean=64:window=128",
                                       "turboquant:k=5:v=3:values=trellis:mean=16:sink=70:window=1",
                                       "trellis:k=4:v=2:mean=300:window=40",
                                       "turboquant:split=1:bits=2:mean=20:window=30",
                                       "mlx_quant:group=32:mean=8",
                                       "rotated_quant:bits=3:k=4:group=32:mean=40:window=700",
                                       "trellis:k=4:v=16:mean=10",
                                       "trellis:bits=5:mean=10",
                                       "turboquant:layers=3/k=8/v=4:mean=10",
                                       "sketch:window=32:sink=1",
                                       "qjl:window=100"};

}  // namespace

TEST_CASE("the output is that of attention over what the query sees, for every range and option") {
  const Text text(600);
  for (const std::string& format : formats) {
    CAPTURE(format);
    CpuLayerAttention layer(shape, KvFormat::parse(format), 3, 0, 1, device(Precision::f32));
    int fed = 0;
    for (const int position : {5, 16, 63, 64, 65, 255, 256, 300, 400, 599}) {
      const auto begin = static_cast<std::size_t>(fed * row),
                 count = static_cast<std::size_t>((position + 1 - fed) * row);
      layer.feed(std::span(text.keys).subspan(begin, count), std::span(text.values).subspan(begin, count));
      fed = position + 1;
      for (const int oldest : {0, position / 2}) {
        CAPTURE(position);
        CAPTURE(oldest);
        std::vector<Head> heads;
        for (int h = 0; h < shape.kv_heads; ++h) {
          const auto seen = layer.seen(h);
          const auto hidden = static_cast<std::ptrdiff_t>(oldest * shape.head_dim);
          heads.push_back(
              {{seen.keys.begin() + hidden, seen.keys.end()}, {seen.values.begin() + hidden, seen.values.end()}});
        }
        std::vector<float> out(query_row);
        layer.attend(text.query, oldest, out);
        CHECK(relative_error(out, exact(text.query, heads)) < 2e-5);
      }
    }
  }
}

TEST_CASE("what is plain is the fed vector in bf16, and what is coded is near it") {
  const Text text(400);
  CpuLayerAttention layer(shape, KvFormat::parse("turboquant:k=5:v=4:mean=20:window=64"), 3, 0, 1,
                          device(Precision::f32));
  layer.feed(text.keys, text.values);
  const auto seen = layer.seen(1);
  const auto fed = [&](const std::vector<float>& rows, int token, int c) {
    return rows[static_cast<std::size_t>(token * row + shape.head_dim + c)];
  };
  const auto bf16 = [](float value) { return bf16_to_f32(f32_to_bf16(value)); };
  std::vector<float> mean(static_cast<std::size_t>(shape.head_dim));
  for (int c = 0; c < shape.head_dim; ++c) {
    float& sum = mean[static_cast<std::size_t>(c)];
    for (int token = 0; token < 20; ++token) sum += fed(text.keys, token, c);
    sum /= 20.0f;
  }
  double coded = 0, size = 0;
  for (int token = 0; token < text.tokens; ++token)
    for (int c = 0; c < shape.head_dim; ++c) {
      const auto at = static_cast<std::size_t>(token * shape.head_dim + c);
      const float m = mean[static_cast<std::size_t>(c)], key = fed(text.keys, token, c);
      if (token < 20) {
        CHECK(seen.keys[at] == bf16(key));
        CHECK(seen.values[at] == bf16(fed(text.values, token, c)));
      } else if (token >= 400 - 64) {
        CHECK(seen.keys[at] == bf16(key - m) + m);
        CHECK(seen.values[at] == bf16(fed(text.values, token, c)));
      } else {
        coded += std::pow(seen.keys[at] - key, 2);
        size += std::pow(key - m, 2);
      }
    }
  CHECK(coded / size == doctest::Approx(0.00248).epsilon(0.2));  // that of 5 bits (docs/formats.md, section 3)
}

TEST_CASE("keys that are a large constant and a small rest: a mean leaves the error of the rest alone") {
  Text text(500);
  const std::vector<float> without_constant = uncompressed(text);
  const double rest_alone = relative_error(output(text, "turboquant:sink=64"), without_constant);
  text.add_to_keys(large_constant());
  CHECK(relative_error(uncompressed(text), without_constant) < 1e-4);  // softmax does not see it
  for (const Precision precision : {Precision::f32, Precision::fast}) {
    const double plain = relative_error(output(text, "turboquant:sink=64", precision), without_constant);
    const double centred = relative_error(output(text, "turboquant:mean=64", precision), without_constant);
    MESSAGE("without the constant " << rest_alone << ", with it " << plain << ", with a mean " << centred);
    CHECK(centred < 1.5 * rest_alone);
    CHECK(plain > 5 * rest_alone);
  }
}

TEST_CASE("adding one vector to all keys changes no output where the format has a mean") {
  CHECK(rc::check([] {
    Text text(*rc::gen::inRange(40, 300), *rc::gen::inRange(1u, 1000u));
    const std::string format =
        *rc::gen::element(std::string("turboquant:bits=4:mean=16"), std::string("trellis:bits=3:mean=33:window=20"),
                          std::string("mlx_quant:bits=8:group=32:mean=30"));
    const std::vector<float> before = output(text, format);
    std::vector<float> constant(row);  // with few digits, so that bf16 holds the sums nearly as well
    for (float& channel : constant) channel = 0.25f * static_cast<float>(*rc::gen::inRange(-8, 9));
    text.add_to_keys(constant);
    RC_ASSERT(relative_error(output(text, format), before) < 0.02);
  }));
}

TEST_CASE("the output does not depend on how the text was cut, whatever the options") {
  const Text text(333);
  for (const std::string& format : formats) {
    CAPTURE(format);
    const std::vector<float> whole = output(text, format);
    for (const std::size_t chunk : std::vector<std::size_t>{1, 7, 64, 256})
      CHECK(output(text, format, Precision::f32, 0, chunk) == whole);
  }
}

TEST_CASE("a text that ends before the mean's tokens has plain keys throughout") {
  const Text text(50);
  CHECK(output(text, "turboquant:mean=64") == output(text, "turboquant:sink=64"));
}

TEST_CASE("vectors that a codec cannot take are refused") {
  CHECK_THROWS_AS(CpuLayerAttention({4, 2, 48, 1}, KvFormat::parse("turboquant"), 0, 0, 1, device(Precision::f32)),
                  Error);
}
