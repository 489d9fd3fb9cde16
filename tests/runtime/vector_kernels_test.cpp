#include <limits>

#include "kernel_inputs.h"

namespace tqkv::cpu {
namespace {

constexpr int odd_sizes[] = {1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 257, 1000, 2048};
constexpr float infinity = std::numeric_limits<float>::infinity();

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

}  // namespace

TEST_CASE("rms_norm agrees with double arithmetic at any size and stride, also in place") {
  for_every_isa([](const Kernels& k) {
    for (const int dim : odd_sizes) {
      CAPTURE(dim);
      Normal normal(1);
      const int rows = 3;
      const std::ptrdiff_t stride = dim + 5, out_stride = dim + 2;
      auto x = normal(size(rows) * static_cast<std::size_t>(stride), 3.0f);
      const auto w = normal(size(dim));
      std::vector<float> out(size(rows) * static_cast<std::size_t>(out_stride), 77.0f);
      std::vector<double> expected(out.size(), 77.0);
      for (std::ptrdiff_t r = 0; r < rows; ++r) {
        double sum = 0;
        for (std::ptrdiff_t i = 0; i < dim; ++i)
          sum += static_cast<double>(x[size(static_cast<int>(r * stride + i))]) *
                 static_cast<double>(x[size(static_cast<int>(r * stride + i))]);
        for (std::ptrdiff_t i = 0; i < dim; ++i)
          expected[static_cast<std::size_t>(r * out_stride + i)] =
              static_cast<double>(w[static_cast<std::size_t>(i)]) *
              static_cast<double>(x[static_cast<std::size_t>(r * stride + i)]) / std::sqrt(sum / dim + 1e-6);
      }
      k.vector.rms_norm(x.data(), stride, w.data(), rows, dim, 1e-6f, out.data(), out_stride);
      CHECK(distance(out, expected) < 2e-6);  // the gaps between rows hold their 77 too

      const std::vector<float> before(x.begin(), x.begin() + dim);
      k.vector.rms_norm(x.data(), stride, w.data(), 1, dim, 1e-6f, x.data(), stride);
      CHECK(std::equal(out.begin(), out.begin() + dim, x.begin()));
    }
  });
}

TEST_CASE("l2_norm gives rows of the length asked for and leaves the rest alone") {
  for_every_isa([](const Kernels& k) {
    for (const int dim : odd_sizes) {
      CAPTURE(dim);
      auto x = Normal(2)(size(2 * dim + 3));
      auto expected = doubles(x);
      for (std::size_t r = 0; r < 2; ++r) {
        double* row = expected.data() + r * size(dim + 1);
        double sum = 0;
        for (int i = 0; i < dim; ++i) sum += row[i] * row[i];
        for (int i = 0; i < dim; ++i) row[i] *= 0.25 / std::sqrt(sum + 1e-6);
      }
      k.vector.l2_norm(x.data(), dim + 1, 2, dim, 1e-6f, 0.25f);
      CHECK(distance(x, expected) < 2e-6);
      std::vector<float> zeros(size(dim), 0.0f);
      k.vector.l2_norm(zeros.data(), dim, 1, dim, 1e-6f, 1.0f);
      CHECK(std::count(zeros.begin(), zeros.end(), 0.0f) == dim);
    }
  });
}

TEST_CASE("add and add_scaled touch n elements and no more") {
  for_every_isa([](const Kernels& k) {
    for (const int n : odd_sizes) {
      CAPTURE(n);
      Normal normal(3);
      auto x = normal(size(n + 1));
      const auto y = normal(size(n + 1));
      auto sum = x;
      k.vector.add(sum.data(), y.data(), size(n));
      auto scaled = x;
      k.vector.add_scaled(scaled.data(), y.data(), -1.5f, size(n));
      for (int i = 0; i < n; ++i) {
        CHECK(sum[size(i)] == x[size(i)] + y[size(i)]);
        CHECK(scaled[size(i)] ==
              doctest::Approx(static_cast<double>(x[size(i)]) - 1.5 * static_cast<double>(y[size(i)])).epsilon(1e-6));
      }
      CHECK(sum[size(n)] == x[size(n)]);
      CHECK(scaled[size(n)] == x[size(n)]);
    }
  });
}

TEST_CASE("The gates are right to 1e-6 of themselves from -87 to 88 and do not overflow beyond") {
  for_every_isa([](const Kernels& k) {
    std::vector<float> gate;
    for (double x = -87.0; x <= 88.0; x += 0.0137) gate.push_back(static_cast<float>(x));
    const std::vector<float> ones(gate.size(), 1.0f);
    auto silu = gate, gated = ones;
    k.vector.silu_multiply(silu.data(), ones.data(), silu.data(), silu.size());  // in place
    k.vector.sigmoid_multiply(gated.data(), gate.data(), gated.size());
    double worst = 0;
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double x = static_cast<double>(gate[i]), s = sigmoid(x);
      worst = std::max(worst, std::abs(static_cast<double>(gated[i]) / s - 1));
      if (x != 0) worst = std::max(worst, std::abs(static_cast<double>(silu[i]) / (x * s) - 1));
    }
    CHECK(worst < 1e-6);

    const std::vector<float> extreme{-infinity, -1e30f, -1000.0f, -0.0f, 0.0f, 1000.0f, 1e30f, 3e38f, -3e38f};
    std::vector<float> y(extreme.size(), 2.0f);
    k.vector.sigmoid_multiply(y.data(), extreme.data(), y.size());
    CHECK(y == std::vector<float>{0, 0, 0, 1, 1, 2, 2, 2, 0});
    const std::vector<float> ones9(extreme.size(), 1.0f);
    std::vector<float> z(extreme.size());
    k.vector.silu_multiply(extreme.data() + 1, ones9.data(), z.data(), z.size() - 1);
    CHECK(z == std::vector<float>{0, 0, 0, 0, 1000.0f, 1e30f, 3e38f, 0, 0});
  });
}

TEST_CASE("silu_multiply agrees with double arithmetic at any size") {
  for_every_isa([](const Kernels& k) {
    for (const int n : odd_sizes) {
      CAPTURE(n);
      Normal normal(4);
      const auto gate = normal(size(n), 4.0f), up = normal(size(n));
      std::vector<float> out(size(n + 1), 5.0f);
      std::vector<double> expected(size(n + 1), 5.0);
      for (std::size_t i = 0; i < size(n); ++i)
        expected[i] = static_cast<double>(gate[i]) * sigmoid(static_cast<double>(gate[i])) * static_cast<double>(up[i]);
      k.vector.silu_multiply(gate.data(), up.data(), out.data(), size(n));
      CHECK(distance(out, expected) < 1e-6);
    }
  });
}

TEST_CASE("softmax agrees with double arithmetic, sums to one and takes minus infinity and huge numbers") {
  for_every_isa([](const Kernels& k) {
    for (const int n : odd_sizes) {
      CAPTURE(n);
      auto x = Normal(5)(size(n) + 1, 6.0f);
      const auto last = x.back();
      std::vector<double> expected(x.begin(), x.end() - 1);
      double sum = 0;
      const double largest = *std::max_element(expected.begin(), expected.end());
      for (double& e : expected) sum += e = std::exp(e - largest);
      for (double& e : expected) e /= sum;
      k.vector.softmax(x.data(), size(n));
      CHECK(distance(x, expected) < 1e-6 * std::sqrt(n));
      CHECK(x.back() == last);
    }
    for (const int n : {3, 19, 40}) {
      std::vector<float> x(size(n), -1e30f);
      x[1] = 1e30f;
      x[2] = -infinity;
      k.vector.softmax(x.data(), x.size());
      CHECK(x[1] == 1.0f);
      CHECK(std::count(x.begin(), x.end(), 0.0f) == n - 1);
      std::vector<float> none(size(n), -infinity);
      k.vector.softmax(none.data(), none.size());
      CHECK(std::count(none.begin(), none.end(), 0.0f) == n);
    }
  });
}

TEST_CASE("rope turns pairs of half the rotary size apart and passes the other channels through") {
  for_every_isa([](const Kernels& k) {
    for (const int rotary : {2, 6, 16, 22, 64, 70}) {
      CAPTURE(rotary);
      const int dim = rotary + 9, heads = 3, half = rotary / 2;
      auto x = Normal(6)(size(heads * dim));
      const auto before = x;
      std::vector<float> cosine, sine;
      for (int i = 0; i < half; ++i) {
        cosine.push_back(std::cos(0.3f * static_cast<float>(i) + 1.0f));
        sine.push_back(std::sin(0.3f * static_cast<float>(i) + 1.0f));
      }
      auto expected = doubles(x);
      for (int h = 0; h < heads; ++h)
        for (int i = 0; i < half; ++i) {
          const double a = static_cast<double>(before[size(h * dim + i)]),
                       b = static_cast<double>(before[size(h * dim + i + half)]);
          const double c = static_cast<double>(cosine[size(i)]), s = static_cast<double>(sine[size(i)]);
          expected[size(h * dim + i)] = a * c - b * s;
          expected[size(h * dim + i + half)] = b * c + a * s;
        }
      k.vector.rope(x.data(), dim, heads, rotary, cosine.data(), sine.data());
      CHECK(distance(x, expected) < 1e-6);
      for (int h = 0; h < heads; ++h)
        CHECK(std::equal(x.begin() + h * dim + rotary, x.begin() + (h + 1) * dim, before.begin() + h * dim + rotary));
    }
  });
}

}  // namespace tqkv::cpu
