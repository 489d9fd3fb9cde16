// Activations turned to integers, by every instruction set that this machine has.
#include <doctest/doctest.h>

#include "matrices.h"

using namespace tqkv::test::matrices;

TEST_CASE(
    "activations are rounded to the nearest integer, ties to even, with the same result in every instruction set") {
  Random random(9);
  std::normal_distribution<float> normal;
  const int rows = 5, cols = 7 * 64, stride = cols + 9, groups = cols / 64;
  Floats x(rows * stride);
  for (int i = 0; i < rows * stride; ++i)
    x[i] = normal(random) * std::exp2(static_cast<float>(uniform(random, -20, 20)));
  for (int i = 0; i < 64; ++i) {
    x[i] = 0;  // a group of zeros
    x[128 + i] = std::numeric_limits<float>::denorm_min() * static_cast<float>(i);
    x[192 + i] = (i % 2 ? 1.0f : -1.0f) * std::numeric_limits<float>::max();
  }
  x[64] = 16319.5f;  // factor 2: quarters become ties
  for (int i = 1; i < 64; ++i) x[64 + i] = static_cast<float>(i - 32) * 0.25f;
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    ActivationRows a(rows + 1, cols), expected(rows + 1, cols);
    kernel.quantize_rows(x.data(), rows, stride, &a.view, 1);
    int wrong = 0;
    for (int r = 0; r < rows; ++r) {
      Activations16 b(cols), twin(cols);
      kernel.quantize16(x.data() + r * stride, &b.view);
      for (int g = 0; g < groups; ++g) {
        const float* from = x.data() + r * stride + 64 * g;
        float absmax = 0;
        for (int i = 0; i < 64; ++i) absmax = std::max(absmax, std::abs(from[i]));
        if (absmax < 0x1p-100f) absmax = 0;
        const float inverse = absmax > 0 ? 32639 / absmax : 0;
        for (int i = 0; i < 64; ++i) {
          const auto q = static_cast<int>(std::nearbyint(from[i] * inverse));
          wrong += std::abs(q) > 32639;
          twin.q[as_size(64 * g + i)] = static_cast<std::int16_t>(q);
          expected.q[as_size((r + 1) * cols + 64 * g + i)] = q;
        }
        twin.scale[as_size(g)] = expected.scale[as_size((r + 1) * groups + g)] = absmax / 32639;
      }
      twin.finish();
      wrong += b.q != twin.q || b.high != twin.high || b.low != twin.low || b.scale != twin.scale || b.sum != twin.sum;
    }
    std::fill_n(expected.scale.begin(), groups, 1.0f);  // the row before the first is not written
    expected.finish();
    const auto same_from = [&](const auto& found, const auto& wanted, int first) {
      return std::equal(found.begin() + first, found.end(), wanted.begin() + first);
    };
    wrong += a.high != expected.high || a.low != expected.low;
    for (auto member :
         {&ActivationRows::scale, &ActivationRows::sum, &ActivationRows::high_scale, &ActivationRows::high_sum})
      wrong += !same_from(a.*member, expected.*member, groups);
    CHECK_MESSAGE(wrong == 0, isa);
  }
}

TEST_CASE("an infinity or NaN among the activations shows in the output and stays in its row") {
  Random random(10);
  const int cols = 128, out = 5;
  Weights w;
  fill(w, Storage::q4, 1, out, cols, random);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
      Floats x(2 * cols, 0.5f), y(2 * out), y16(out);
      x[77] = bad;
      ActivationRows a(2, cols);
      kernel.quantize_rows(x.data(), 2, cols, &a.view, 0);
      kernel.multiply_rows(w.matrix, 0, out, a.view, Planes::both, nullptr, 2, y.data(), out);
      Activations16 b(cols);
      kernel.quantize16(x.data(), &b.view);
      kernel.multiply16(w.matrix, 0, out, &b.view, nullptr, 1, y16.data(), 0);
      for (int o = 0; o < out; ++o) {
        CHECK_MESSAGE(std::isnan(y[o]), isa);
        CHECK_MESSAGE(std::isfinite(y[out + o]), isa);
        CHECK_MESSAGE(std::isnan(y16[o]), isa);
      }
    }
  }
}

TEST_CASE("quantized activations times weights stay close to the exact product") {
  Random random(11);
  std::normal_distribution<float> normal;
  const int in = 1024, out = 24, tokens = 6;
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    Weights w;
    fill(w, Storage::q4, 1, out, in, random);
    Floats x(tokens * in), exact(tokens * out), fast(tokens * out), coarse(tokens * out), fine(out),
        scratch(static_cast<std::ptrdiff_t>(kernel.f32_scratch(in)));
    for (int i = 0; i < tokens * in; ++i) x[i] = normal(random);
    kernel.multiply_f32(w.matrix, 0, out, x.data(), in, nullptr, tokens, Additions::by_tile, exact.data(), out,
                        scratch.data());
    ActivationRows a(tokens, in);
    kernel.quantize_rows(x.data(), tokens, in, &a.view, 0);
    kernel.multiply_rows(w.matrix, 0, out, a.view, Planes::high, nullptr, tokens, coarse.data(), out);
    kernel.multiply_rows(w.matrix, 0, out, a.view, Planes::both, nullptr, tokens, fast.data(), out);
    double error8 = 0, error_both = 0, error16 = 0, power = 0;
    for (int t = 0; t < tokens; ++t) {
      Activations16 b(in);
      kernel.quantize16(x.data() + t * in, &b.view);
      kernel.multiply16(w.matrix, 0, out, &b.view, nullptr, 1, fine.data(), 0);
      for (int o = 0; o < out; ++o) {
        const double e = exact[t * out + o];
        error8 += std::pow(coarse[t * out + o] - e, 2);
        error_both += std::pow(fast[t * out + o] - e, 2);
        error16 += std::pow(fine[o] - e, 2);
        power += e * e;
      }
    }
    CHECK_MESSAGE(std::sqrt(error8 / power) < 0.01, isa);      // step absmax/127, absmax about 2.5 deviations: 0.6 %
    CHECK_MESSAGE(std::sqrt(error_both / power) < 4e-5, isa);  // 257 times finer
    CHECK_MESSAGE(std::sqrt(error16 / power) < 4e-5, isa);
  }
}
