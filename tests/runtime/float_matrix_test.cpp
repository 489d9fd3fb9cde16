// multiply_f32 and dequantize_row of every instruction set that this machine has.
#include <doctest/doctest.h>

#include "matrices.h"

using namespace tqkv::test::matrices;

TEST_CASE("multiply_f32 agrees with double arithmetic for every storage, any width and any number of tokens") {
  Random random(7);
  std::normal_distribution<float> normal;
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8, Storage::bf16, Storage::f16, Storage::f32})
      for (const int out : {1, 3, 17, 33, 70})
        for (const int in : {1, 5, 63, 64, 128, 130, 192, 333, 448}) {
          if ((storage == Storage::q4 || storage == Storage::q8) && in % 64 != 0) continue;
          Weights w;
          fill(w, storage, 1, out, in, random);
          for (const int tokens : {1, 2, 3, 4, 7, 9, 17}) {
            const int x_stride = in + 5, stride = out + 3;
            Floats x(20 * x_stride), y(tokens * stride, untouched),
                scratch(static_cast<std::ptrdiff_t>(kernel.f32_scratch(in)));
            for (int i = 0; i < 20 * x_stride; ++i) x[i] = normal(random);
            std::vector<int> index(as_size(tokens));
            for (int& i : index) i = uniform(random, 0, 19);
            const bool gather = tokens % 2 == 1;
            for (const Additions additions : {Additions::by_tile, Additions::along_rows}) {
              kernel.multiply_f32(w.matrix, 0, out, x.data(), x_stride, gather ? index.data() : nullptr, tokens,
                                  additions, y.data(), stride, scratch.data());
              int wrong = 0;
              for (int t = 0; t < tokens; ++t)
                for (int o = 0; o < stride; ++o) {
                  if (o >= out) {
                    wrong += y[t * stride + o] != untouched;
                    continue;
                  }
                  Expected expected;
                  for (int i = 0; i < in; ++i) {
                    const double term = w.at(o, i) * x[(gather ? index[as_size(t)] : t) * x_stride + i];
                    expected.value += term;
                    expected.magnitude += std::abs(term);
                  }
                  wrong += !near(y[t * stride + o], expected, 128);  // sums of blocks of 128 channels
                }
              CHECK_MESSAGE(wrong == 0, isa << " storage " << static_cast<int>(storage) << " out " << out << " in "
                                            << in << " tokens " << tokens);
              // Sub-ranges have the same bits.
              const int first = out / 3, rows = out - first;
              Floats part(tokens * rows);
              kernel.multiply_f32(w.matrix, first, out, x.data(), x_stride, gather ? index.data() : nullptr, tokens,
                                  additions, part.data(), rows, scratch.data());
              for (int t = 0; t < tokens; ++t)
                wrong += std::memcmp(part.data() + t * rows, y.data() + t * stride + first, 4 * as_size(rows)) != 0;
              CHECK_MESSAGE(wrong == 0, isa << " sub-range, storage " << static_cast<int>(storage) << " out " << out
                                            << " in " << in << " tokens " << tokens);
              // So has a row alone.
              Floats alone(out);
              for (int t = 0; t < tokens; ++t) {
                const std::ptrdiff_t own = gather ? index[as_size(t)] : t;
                kernel.multiply_f32(w.matrix, 0, out, x.data() + own * x_stride, x_stride, nullptr, 1, additions,
                                    alone.data(), out, scratch.data());
                wrong += std::memcmp(alone.data(), y.data() + t * stride, 4 * as_size(out)) != 0;
              }
              CHECK_MESSAGE(wrong == 0, isa << " alone, storage " << static_cast<int>(storage) << " out " << out
                                            << " in " << in << " tokens " << tokens);
            }
          }
        }
  }
}

TEST_CASE("dequantize_row gives the floats that the bytes stand for") {
  Random random(8);
  for (const auto isa : available_isas()) {
    const MatrixKernels& kernel = kernels(isa).matrix;
    for (const Storage storage : {Storage::q4, Storage::q8, Storage::bf16, Storage::f16, Storage::f32})
      for (const int in : {1, 7, 64, 192, 300, 448}) {
        if ((storage == Storage::q4 || storage == Storage::q8) && in % 64 != 0) continue;
        Weights w;
        fill(w, storage, 1, 3, in, random);
        for (int o = 0; o < 3; ++o) {
          Floats row(in + 1, untouched);
          kernel.dequantize_row(w.matrix, o, row.data());
          int wrong = row[in] != untouched;
          for (int i = 0; i < in; ++i) wrong += row[i] != static_cast<float>(w.at(o, i));
          CHECK_MESSAGE(wrong == 0, isa << " storage " << static_cast<int>(storage) << " in " << in << " row " << o);
        }
      }
  }
}
