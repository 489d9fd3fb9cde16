// multiply_rows of every instruction set that this machine has: many tokens against quantized matrices.
#include <doctest/doctest.h>

#include "matrices.h"

using namespace tqkv::test::matrices;

TEST_CASE("multiply_rows agrees with integer arithmetic on every instruction set, for sizes that divide nothing") {
  Random random(1);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8})
      for (const int out : {1, 3, 17, 33})
        for (const int groups : {1, 2, 3, 5, 7, 16, 33})
          for (const int tokens : {1, 2, 3, 7, 9, 17}) {
            Weights w;
            fill(w, storage, 1, out, 64 * groups, random);
            ActivationRows x(tokens, 64 * groups);
            x.randomize(random);
            const int stride = out + 3;
            int wrong = 0;
            for (const Planes planes : every_planes) {
              Floats y(tokens * stride, untouched);
              kernel.multiply_rows(w.matrix, 0, out, x.view, planes, nullptr, tokens, y.data(), stride);
              for (int t = 0; t < tokens; ++t)
                for (int o = 0; o < stride; ++o) {
                  const float found = y[t * stride + o];
                  if (o >= out)
                    wrong += found != untouched;
                  else
                    wrong += !near(found,
                                   integer_product(w, o, x.numbers(planes, t), x.scales(planes, t), x.sums(planes, t)),
                                   2 * groups);
                }
            }
            CHECK_MESSAGE(wrong == 0, isa << " storage " << static_cast<int>(storage) << " out " << out << " groups "
                                          << groups << " tokens " << tokens);
          }
  }
}

TEST_CASE("integer sums are exact at the ends of the ranges, where narrow sums would saturate") {
  Random random(2);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8})
      for (const int groups : {1, 2, 5, 8})
        for (const int pattern : {0, 1, 2, 3}) {
          const int out = 19, in = 64 * groups, tokens = 5, top = storage == Storage::q4 ? 15 : 255;
          Weights w;
          fill_constant(w, storage, out, in, top);
          if (pattern == 3) {
            for (int& q : w.q) q = uniform(random, 0, 1) * top;
            w.pack(storage, 1, out, in);
          }
          ActivationRows x(tokens, in);
          for (std::size_t i = 0; i < x.q.size(); ++i)
            x.q[i] = pattern == 0   ? 32639
                     : pattern == 1 ? -32639
                     : pattern == 2 ? (i % 4 < 2 ? 32639 : -32639)
                                    : uniform(random, 0, 1) * 65278 - 32639;
          x.finish();
          int wrong = 0;
          for (const Planes planes : every_planes) {
            if (planes ==
                Planes::high)  // 8 * 64 * 255 * 127 is below 2^24: with a scale of 1 all sums are exact in f32
              std::fill(x.high_scale.begin(), x.high_scale.end(), 1.0f);
            Floats y(tokens * out);
            kernel.multiply_rows(w.matrix, 0, out, x.view, planes, nullptr, tokens, y.data(), out);
            for (int t = 0; t < tokens; ++t)
              for (int o = 0; o < out; ++o) {
                const Expected expected =
                    integer_product(w, o, x.numbers(planes, t), x.scales(planes, t), x.sums(planes, t));
                const float found = y[t * out + o];
                wrong += planes == Planes::high ? found != static_cast<float>(expected.value)
                                                : !near(found, expected, 2 * groups);
              }
          }
          CHECK_MESSAGE(wrong == 0, isa << " storage " << static_cast<int>(storage) << " groups " << groups
                                        << " pattern " << pattern);
        }
  }
}

TEST_CASE("the rows of a range have the same bits as in the whole, and a token's bits do not depend on its company") {
  Random random(5);
  const std::vector<std::pair<int, int>> ranges{{0, 1}, {1, 17}, {7, 45}, {16, 40}, {44, 45}};
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8}) {
      const int out = 45, groups = 19, in = 64 * groups, tokens = 21;
      Weights w;
      fill(w, storage, 1, out, in, random);
      ActivationRows x(tokens, in);
      x.randomize(random);
      Floats whole(tokens * out);
      kernel.multiply_rows(w.matrix, 0, out, x.view, Planes::both, nullptr, tokens, whole.data(), out);
      for (const auto& range : ranges) {
        const int first = range.first, last = range.second;
        const int rows = last - first;
        Floats part(tokens * rows);
        kernel.multiply_rows(w.matrix, first, last, x.view, Planes::both, nullptr, tokens, part.data(), rows);
        int wrong = 0;
        for (int t = 0; t < tokens; ++t)
          wrong += std::memcmp(part.data() + t * rows, whole.data() + t * out + first, 4 * as_size(rows)) != 0;
        CHECK_MESSAGE(wrong == 0, isa << " rows " << first << ".." << last);
      }
      for (const int count : {1, 2, 3, 5, 8, 11, 16}) {
        Floats part(count * out);
        std::vector<int> index(as_size(count));
        for (int& i : index) i = uniform(random, 0, tokens - 1);
        kernel.multiply_rows(w.matrix, 0, out, x.view, Planes::both, index.data(), count, part.data(), out);
        int wrong = 0;
        for (int t = 0; t < count; ++t)
          wrong += std::memcmp(part.data() + t * out, whole.data() + index[as_size(t)] * out, 4 * as_size(out)) != 0;
        CHECK_MESSAGE(wrong == 0, isa << " tokens " << count);
      }
      Activations16 x16(in);
      for (auto& v : x16.q) v = static_cast<std::int16_t>(uniform(random, -32639, 32639));
      x16.finish();
      Floats whole16(out), part16(out);
      kernel.multiply16(w.matrix, 0, out, &x16.view, nullptr, 1, whole16.data(), 0);
      for (const auto& range : ranges) {
        const int first = range.first, last = range.second;
        kernel.multiply16(w.matrix, first, last, &x16.view, nullptr, 1, part16.data(), 0);
        CHECK_MESSAGE(std::memcmp(part16.data(), whole16.data() + first, 4 * as_size(last - first)) == 0,
                      isa << " rows " << first << ".." << last);
      }
    }
  }
}

TEST_CASE("an expert's rows are multiplied as if they stood alone") {
  Random random(6);
  const int experts = 3, out = 21, groups = 3, in = 64 * groups, tokens = 4;
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8}) {
      Weights w;
      fill(w, storage, experts, out, in, random);
      ActivationRows x(tokens, in);
      x.randomize(random);
      Activations16 x16(in);
      for (auto& v : x16.q) v = static_cast<std::int16_t>(uniform(random, -3000, 3000));
      x16.finish();
      for (int e = 0; e < experts; ++e) {
        const Matrix expert = w.matrix.expert(e);
        Floats y(tokens * out), y16(out), row(in);
        kernel.multiply_rows(expert, 0, out, x.view, Planes::both, nullptr, tokens, y.data(), out);
        kernel.multiply16(expert, 0, out, &x16.view, nullptr, 1, y16.data(), 0);
        int wrong = 0;
        for (int o = 0; o < out; ++o) {
          const std::ptrdiff_t global = e * out + o;
          for (int t = 0; t < tokens; ++t)
            wrong += !near(y[t * out + o],
                           integer_product(w, global, x.numbers(Planes::both, t), x.scales(Planes::both, t),
                                           x.sums(Planes::both, t)),
                           2 * groups);
          wrong += !near(y16[o], integer_product(w, global, x16.q.data(), x16.scale.data(), x16.sum.data()), 40);
          kernel.dequantize_row(expert, o, row.data());
          for (int i = 0; i < in; ++i) wrong += row[i] != static_cast<float>(w.at(global, i));
        }
        CHECK_MESSAGE(wrong == 0, isa << " expert " << e);
      }
    }
  }
}
