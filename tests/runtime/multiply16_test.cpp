// multiply16 of every instruction set that this machine has: one token against quantized matrices.
#include <doctest/doctest.h>

#include "matrices.h"

using namespace tqkv::test::matrices;

TEST_CASE("multiply16 agrees with integer arithmetic on every instruction set, for sizes that divide nothing") {
  Random random(3);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8})
      for (const int out : {1, 2, 3, 17, 33})
        for (const int groups : {1, 2, 3, 5, 7, 16, 17, 33})
          for (const bool extreme : {false, true}) {
            Weights w;
            fill(w, storage, 1, out, 64 * groups, random);
            Activations16 x(64 * groups);
            std::normal_distribution<float> normal;
            for (auto& s : x.scale) s = std::abs(normal(random));
            for (auto& v : x.q)
              v = static_cast<std::int16_t>(extreme ? uniform(random, 0, 1) * 65278 - 32639
                                                    : uniform(random, -32639, 32639));
            x.finish();
            if (extreme) {
              for (int& q : w.q) q = storage == Storage::q4 ? 15 : 255;
              w.pack(storage, 1, out, 64 * groups);
            }
            Floats y(out + 3, untouched);
            kernel.multiply16(w.matrix, 0, out, &x.view, nullptr, 1, y.data(), 0);
            int wrong = y[out] != untouched || y[out + 1] != untouched || y[out + 2] != untouched;
            for (int o = 0; o < out; ++o) {
              Expected expected = integer_product(w, o, x.q.data(), x.scale.data(), x.sum.data());
              // Lanes of a group are rounded apart, so rounding is relative to the terms inside the group.
              for (int i = 0; i < 64 * groups; ++i)
                expected.magnitude +=
                    std::abs(static_cast<double>(w.scale[as_size(o * groups + i / 64)]) * x.scale[as_size(i / 64)] *
                             w.q[as_size(o * 64 * groups + i)] * x.q[as_size(i)]);
              wrong += !near(y[o], expected, 2 * groups);
            }
            CHECK_MESSAGE(wrong == 0, isa << " storage " << static_cast<int>(storage) << " out " << out << " groups "
                                          << groups << " extreme " << extreme);
          }
  }
}

TEST_CASE("multiply16 is exact where every sum fits 24 bits") {
  Random random(4);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8})
      for (const int groups : {1, 2, 3, 5, 33}) {
        const bool q4 = storage == Storage::q4;
        const int out = 6, in = 64 * groups;
        Weights w;
        fill_constant(w, storage, out, in, 0);
        for (int& q : w.q) q = uniform(random, 0, q4 ? 15 : 255);
        w.pack(storage, 1, out, in);
        Activations16 x(in);
        // One large value in some groups; their products add up to less than 2^24.
        for (int g = 0; g < groups && (q4 || g < 2); ++g)
          x.q[as_size(64 * g + uniform(random, 0, 63))] = static_cast<std::int16_t>(g % 2 ? -32639 : 32639);
        x.finish();
        Floats y(out);
        kernel.multiply16(w.matrix, 0, out, &x.view, nullptr, 1, y.data(), 0);
        for (int o = 0; o < out; ++o)
          CHECK_MESSAGE(
              y[o] == static_cast<float>(integer_product(w, o, x.q.data(), x.scale.data(), x.sum.data()).value),
              isa << " groups " << groups);
      }
  }
}

TEST_CASE("multiply16 gives each of several rows the bits that it has alone") {
  Random random(14);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8})
      for (const int out : {1, 7, 32, 37})
        for (const int groups : {1, 5, 16, 33}) {
          const int in = 64 * groups, rows = 9, stride = out + 2;
          Weights w;
          fill(w, storage, 1, out, in, random);
          std::vector<Activations16> x(as_size(rows), Activations16(in));
          std::vector<Row16> views;
          for (auto& row : x) {
            for (auto& v : row.q) v = static_cast<std::int16_t>(uniform(random, -32639, 32639));
            row.finish();
            views.push_back({in, row.q.data(), row.high.data(), row.low.data(), row.scale.data(), row.sum.data()});
          }
          const std::vector<int> index{8, 0, 3, 3, 1, 7};
          for (const int count : {1, 2, 3, 4, 6}) {
            Floats y(count * stride, untouched), alone(out);
            kernel.multiply16(w.matrix, 0, out, views.data(), index.data(), count, y.data(), stride);
            int wrong = 0;
            for (int t = 0; t < count; ++t) {
              kernel.multiply16(w.matrix, 0, out, &views[as_size(index[as_size(t)])], nullptr, 1, alone.data(), 0);
              wrong += std::memcmp(y.data() + t * stride, alone.data(), 4 * as_size(out)) != 0;
              wrong += y[t * stride + out] != untouched;
            }
            CHECK_MESSAGE(wrong == 0, isa << " out " << out << " groups " << groups << " rows " << count);
          }
        }
  }
}
