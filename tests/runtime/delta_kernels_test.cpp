#include "kernel_inputs.h"
#include "support/sanitized.h"

namespace tqkv::cpu {
namespace {

struct Sequence {
  int tokens, key_dim, value_dim;
  std::vector<float> q, k, v, log_g, beta;
};

/// Unit keys and scaled unit queries, as the model has them. decay: mean of -log g; every fifth token decays a thousand
/// times faster when `mixed`.
Sequence sequence(int tokens, int key_dim, int value_dim, float decay, bool mixed, unsigned seed) {
  Normal normal(seed);
  Sequence s{tokens,
             key_dim,
             value_dim,
             normal(size(tokens * key_dim)),
             normal(size(tokens * key_dim)),
             normal(size(tokens * value_dim)),
             {},
             {}};
  for (int t = 0; t < tokens; ++t) {
    for (auto* x : {&s.q, &s.k}) {
      double squares = 0;
      for (int i = 0; i < key_dim; ++i)
        squares += static_cast<double>((*x)[size(t * key_dim + i)]) * static_cast<double>((*x)[size(t * key_dim + i)]);
      for (int i = 0; i < key_dim; ++i) (*x)[size(t * key_dim + i)] *= static_cast<float>(1.0 / std::sqrt(squares));
    }
    s.log_g.push_back(-decay * normal.uniform() * (mixed && t % 5 == 0 ? 1000.0f : 1.0f));
    s.beta.push_back(t % 7 == 3 ? 0.0f : t % 7 == 5 ? 1.0f : normal.uniform());
  }
  return s;
}

/// Token by token in double, as docs/architecture.md writes the recurrence.
std::vector<double> recurrence(const Sequence& s, std::vector<double>& state) {
  std::vector<double> out;
  for (int t = 0; t < s.tokens; ++t) {
    const double g = std::exp(static_cast<double>(s.log_g[size(t)]));
    const float* k = s.k.data() + t * s.key_dim;
    const float* q = s.q.data() + t * s.key_dim;
    for (int r = 0; r < s.value_dim; ++r) {
      double* row = state.data() + r * s.key_dim;
      double read = 0, o = 0;
      for (int i = 0; i < s.key_dim; ++i) {
        row[i] *= g;
        read += row[i] * static_cast<double>(k[i]);
      }
      const double d =
          static_cast<double>(s.beta[size(t)]) * (static_cast<double>(s.v[size(t * s.value_dim + r)]) - read);
      for (int i = 0; i < s.key_dim; ++i) {
        row[i] += d * static_cast<double>(k[i]);
        o += row[i] * static_cast<double>(q[i]);
      }
      out.push_back(o);
    }
  }
  return out;
}

}  // namespace

TEST_CASE("The convolution of the delta net sees its past rows, any number of taps and any range of channels") {
  for_every_isa([](const Kernels& kernels) {
    for (const int taps : {2, 3, 4, 5})
      for (const int channels : {1, 7, 19, 64, 131}) {
        CAPTURE(taps);
        CAPTURE(channels);
        Normal normal(11);
        const int tokens = 9, first = channels > 8 ? 3 : 0, last = channels > 8 ? channels - 2 : channels,
                  out_stride = channels + 3;
        const auto u = normal(size((tokens + taps - 1) * channels)), w = normal(size(taps * channels));
        std::vector<float> out(size(tokens * out_stride), 9.0f);
        std::vector<double> expected(out.size(), 9.0);
        for (int t = 0; t < tokens; ++t)
          for (int c = first; c < last; ++c) {
            double sum = 0;
            for (int j = 0; j < taps; ++j)
              sum +=
                  static_cast<double>(w[size(j * channels + c)]) * static_cast<double>(u[size((t + j) * channels + c)]);
            expected[size(t * out_stride + c)] = sum / (1 + std::exp(-sum));
          }
        kernels.delta.convolve(u.data(), channels, w.data(), taps, tokens, first, last, out.data(), out_stride);
        CHECK(distance(out, expected) < 1e-6);
      }
  });
}

TEST_CASE("One step of the delta rule agrees with double arithmetic for any head size") {
  for_every_isa([](const Kernels& kernels) {
    for (const int key_dim : {1, 5, 16, 33, 64, 128})
      for (const int value_dim : {1, 4, 7, 128}) {
        CAPTURE(key_dim);
        CAPTURE(value_dim);
        const auto s = sequence(12, key_dim, value_dim, 0.3f, false, 12);
        auto state = Normal(13)(size(key_dim * value_dim));
        auto exact = doubles(state);
        const auto expected = recurrence(s, exact);
        std::vector<float> out(expected.size());
        for (int t = 0; t < s.tokens; ++t)
          kernels.delta.step(state.data(), s.q.data() + t * key_dim, s.k.data() + t * key_dim,
                             s.v.data() + t * value_dim, std::exp(s.log_g[size(t)]), s.beta[size(t)], key_dim,
                             value_dim, out.data() + t * value_dim);
        CHECK(distance(out, expected) < 5e-6);
        CHECK(distance(state, exact) < 5e-6);
      }
  });
}

TEST_CASE("Chunks of the delta rule agree with token by token, whatever their length, decay and head size" *
          doctest::skip(tqkv::test::sanitized)) {
  struct Shape {
    int key_dim, value_dim;
  };
  for_every_isa([](const Kernels& kernels) {
    for (const auto shape : {Shape{128, 128}, Shape{24, 40}, Shape{13, 7}, Shape{64, 128}})
      for (const int tokens : {1, 2, 7, 33, 63, 64, 640})
        for (const float decay : {1e-4f, 0.05f, 3.0f, 400.0f})
          for (const bool mixed : {false, true}) {
            if (tokens == 640 && shape.key_dim == 128 && decay != 1e-4f) continue;  // the references are slow
            CAPTURE(shape.key_dim);
            CAPTURE(tokens);
            CAPTURE(decay);
            CAPTURE(mixed);
            const auto s = sequence(tokens, shape.key_dim, shape.value_dim, decay, mixed, 14);
            auto state = Normal(15)(size(shape.key_dim * shape.value_dim));
            auto exact = doubles(state);
            const auto expected = recurrence(s, exact);
            std::vector<float> out(expected.size());
            std::vector<float> scratch(kernels.delta.chunk_scratch(shape.key_dim, shape.value_dim), std::nanf(""));
            for (int t = 0; t < tokens; t += 64)
              kernels.delta.chunk(state.data(), s.q.data() + t * shape.key_dim, s.k.data() + t * shape.key_dim,
                                  shape.key_dim, s.v.data() + t * shape.value_dim, shape.value_dim, s.log_g.data() + t,
                                  s.beta.data() + t, std::min(64, tokens - t), shape.key_dim, shape.value_dim,
                                  out.data() + t * shape.value_dim, shape.value_dim, scratch.data());
            CHECK(distance(out, expected) < 1e-5);
            CHECK(distance(state, exact) < 1e-5);
          }
  });
}

TEST_CASE("A chunk reads and writes rows at their strides and leaves what lies between") {
  for_every_isa([](const Kernels& kernels) {
    const int tokens = 37, key_dim = 40, value_dim = 23, qk_stride = 101, v_stride = 60, out_stride = 29;
    const auto s = sequence(tokens, key_dim, value_dim, 0.2f, false, 16);
    std::vector<float> q(size(tokens * qk_stride), 1e30f), k = q, v(size(tokens * v_stride), 1e30f),
                                                           out(size(tokens * out_stride), 4.0f);
    for (int t = 0; t < tokens; ++t) {
      std::copy_n(s.q.begin() + t * key_dim, key_dim, q.begin() + t * qk_stride);
      std::copy_n(s.k.begin() + t * key_dim, key_dim, k.begin() + t * qk_stride);
      std::copy_n(s.v.begin() + t * value_dim, value_dim, v.begin() + t * v_stride);
    }
    std::vector<float> state(size(key_dim * value_dim), 0.0f);
    auto exact = doubles(state);
    const auto packed = recurrence(s, exact);
    std::vector<double> expected(out.size(), 4.0);
    for (int t = 0; t < tokens; ++t)
      std::copy_n(packed.begin() + t * value_dim, value_dim, expected.begin() + t * out_stride);
    std::vector<float> scratch(kernels.delta.chunk_scratch(key_dim, value_dim));
    kernels.delta.chunk(state.data(), q.data(), k.data(), qk_stride, v.data(), v_stride, s.log_g.data(), s.beta.data(),
                        tokens, key_dim, value_dim, out.data(), out_stride, scratch.data());
    CHECK(distance(out, expected) < 1e-5);
    CHECK(distance(state, exact) < 1e-5);
  });
}

TEST_CASE("Decay to nothing within a chunk forgets the state without a NaN") {
  for_every_isa([](const Kernels& kernels) {
    auto s = sequence(50, 32, 32, 0.1f, false, 17);
    s.log_g[20] = -std::numeric_limits<float>::infinity();
    s.log_g[21] = -1e6f;
    std::vector<float> state(32 * 32, 1e10f), out(50 * 32), scratch(kernels.delta.chunk_scratch(32, 32));
    kernels.delta.chunk(state.data(), s.q.data(), s.k.data(), 32, s.v.data(), 32, s.log_g.data(), s.beta.data(), 50, 32,
                        32, out.data(), 32, scratch.data());
    std::vector<double> exact(32 * 32, 1e10);
    const auto expected = recurrence(s, exact);
    CHECK(distance(state, exact) < 1e-5);
    const std::vector<float> late(out.begin() + 22 * 32, out.end());
    CHECK(distance(late, {expected.begin() + 22 * 32, expected.end()}) < 1e-5);
  });
}

}  // namespace tqkv::cpu
