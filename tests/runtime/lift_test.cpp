#include "runtime/cpu/lift.h"

#include "encoded_vectors.h"

namespace tqkv::cpu {
namespace {

using Kind = SideFormat::Kind;

Codecs lifted_codecs(int dim) {
  Codecs codecs;
  codecs.add(format_of(Kind::plain, 16), dim);
  codecs.add(format_of(Kind::affine, 4, 64), dim);
  codecs.add(format_of(Kind::turboquant, 4), dim);
  codecs.add(format_of(Kind::split, 3), dim);
  codecs.add(format_of(Kind::sketch, 3, 64), dim);
  for (const auto projection : both_projections) {
    auto format = format_of(Kind::prod, 3);
    format.projection = projection;
    codecs.add(format, dim);
    format.kind = Kind::signs;
    for (const int rows : {64, 192, 256}) {
      format.rows = rows;
      codecs.add(format, dim);
    }
  }
  return codecs;
}

codec::Basis basis_of(const codec::SideCodec& codec) {
  if (codec.format.kind != Kind::split) return codec::Basis::of(codec.format, 3, 7, 1, codec.dim);
  std::vector<int> strong;
  for (int i = 1; i < codec.dim; i += 4) strong.push_back(i);
  return codec::Basis::split(strong, 3, 7, 1, codec.dim);
}

}  // namespace

TEST_CASE("Queries are lifted and sums lowered as the scalar basis and S do it, for any number of rows") {
  for_every_isa([](const Kernels& kernels) {
    for (const int dim : {64, 128, 256}) {
      const Codecs codecs = lifted_codecs(dim);
      for (const auto& codec : codecs.all())
        for (const int rows : {1, 3, 8, 17}) {
          const std::string format = codec.format.describe();
          CAPTURE(format);
          CAPTURE(dim);
          CAPTURE(rows);
          const auto basis = basis_of(codec);
          const int space = codec.space();
          Normal normal(61);
          const auto query = normal(size(rows * dim)), sums = normal(size(rows * space));
          std::vector<double> expected_lift, expected_low;
          for (int i = 0; i < rows; ++i) {
            std::vector<float> q(query.begin() + i * dim, query.begin() + (i + 1) * dim);
            basis.apply(q);
            expected_lift.insert(expected_lift.end(), q.begin(), q.begin() + codec.direct);
            const std::span<const float> sum(sums.data() + i * space, size(space));
            std::vector<float> low(sum.begin(), sum.begin() + codec.direct);
            low.resize(size(dim), 0.0f);
            if (codec.signs > 0) {
              std::vector<float> product(size(codec.signs));
              codec.matrix->multiply(q, product);
              expected_lift.insert(expected_lift.end(), product.begin(), product.end());
              codec.matrix->add_transposed(sum.subspan(size(codec.direct)), low);
            }
            basis.revert(low);
            expected_low.insert(expected_low.end(), low.begin(), low.end());
          }
          auto in = query;
          std::vector<float> out(size(rows * space)), scratch(lift_scratch(rows, dim));
          lift(kernels, codec, basis, {in.data(), rows, dim}, {out.data(), rows, space}, scratch.data());
          CHECK(distance(out, expected_lift) < 1e-5);
          in = sums;
          out.assign(size(rows * dim), -1.0f);
          lower(kernels, codec, basis, {in.data(), rows, space}, {out.data(), rows, dim}, scratch.data());
          CHECK(distance(out, expected_low) < 1e-5);
          if (codec.signs > 0) continue;
          in = query;  // in place
          lift(kernels, codec, basis, {in.data(), rows, dim}, {in.data(), rows, space}, scratch.data());
          CHECK(distance(in, expected_lift) < 1e-5);
          in = sums;
          lower(kernels, codec, basis, {in.data(), rows, space}, {in.data(), rows, dim}, scratch.data());
          CHECK(distance(in, expected_low) < 1e-5);
        }
    }
  });
}

TEST_CASE("A lifted query scores the vectors that the kernels decode, and lowered sums are sums of lowered vectors") {
  for_every_isa([](const Kernels& kernels) {
    const int dim = 128, n = 40;
    const Codecs codecs = lifted_codecs(dim);
    for (const auto& codec : codecs.all()) {
      const std::string format = codec.format.describe();
      CAPTURE(format);
      const auto basis = basis_of(codec);
      const int space = codec.space();
      Normal normal(62);
      auto x = normal(size(n * dim));
      const auto query = normal(size(dim));
      to_basis(kernels, basis, {x.data(), n, dim});
      auto encoded = room(codec, n);
      kernels.attention.encode(codec, x.data(), dim, n, encoded.codes.data(), encoded.scalars.data());
      std::vector<float> decoded(size(n * space)), scratch(lift_scratch(n, dim)), lifted(size(space));
      kernels.attention.decode(codec, encoded.codes.data(), encoded.scalars.data(), n, decoded.data());
      auto in = query;
      lift(kernels, codec, basis, {in.data(), 1, dim}, {lifted.data(), 1, space}, scratch.data());
      std::vector<float> sum(size(space), 0.0f), whole(size(dim)), rows = decoded, lowered(size(n * dim)), scores;
      std::vector<double> expected_scores, expected_sum(size(dim), 0.0);
      lower(kernels, codec, basis, {rows.data(), n, space}, {lowered.data(), n, dim}, scratch.data());
      for (int j = 0; j < n; ++j) {
        double score = 0, expected = 0;
        for (int c = 0; c < space; ++c) {
          const float value = decoded[size(j * space + c)];
          score += static_cast<double>(lifted[size(c)]) * static_cast<double>(value);
          sum[size(c)] += value / static_cast<float>(n);
        }
        for (int c = 0; c < dim; ++c) {
          const auto value = static_cast<double>(lowered[size(j * dim + c)]);
          expected += static_cast<double>(query[size(c)]) * value;
          expected_sum[size(c)] += value / n;
        }
        scores.push_back(static_cast<float>(score));
        expected_scores.push_back(expected);
      }
      lower(kernels, codec, basis, {sum.data(), 1, space}, {whole.data(), 1, dim}, scratch.data());
      CHECK(distance(scores, expected_scores) < 1e-5);
      CHECK(distance(whole, expected_sum) < 1e-5);
    }
  });
}

}  // namespace tqkv::cpu
