#include "measure/agreement/agreement.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "measure/figures/kl.h"
#include "measure/recall/draws.h"
#include "support/failure.h"
#include "support/temporary_directory.h"

using namespace tqkv;
using namespace tqkv::measure;
using test::contains;
using test::failure;

namespace {

// Logits as a model makes them: a few likely ids, many unlikely ones.
std::vector<float> some_logits(int vocab, std::uint64_t seed) {
  Draws draws{seed};
  std::vector<float> logits(static_cast<std::size_t>(vocab));
  for (float& logit : logits) logit = static_cast<float>(draws.below(20'000)) * 1e-3f - 10.0f;
  for (int i = 0; i < 4; ++i) logits[draws.below(logits.size())] = 11.0f + static_cast<float>(i);
  return logits;
}

std::vector<float> moved(std::vector<float> logits, float by, std::uint64_t seed) {
  Draws draws{seed, 1};
  for (float& logit : logits) logit += by * (static_cast<float>(draws.below(2001)) * 1e-3f - 1.0f);
  return logits;
}

RowFigures figures(double kl, double reference_p, double p, bool same) {
  return {kl, std::log(reference_p), std::log(p), same};
}

}  // namespace

TEST_CASE("the error of a mean counts neighbours that move together as one") {
  const std::vector<double> apart = {1, 3, 1, 3, 1, 3, 1, 3};
  CHECK(clustered_mean(apart, 1).mean == 2);
  CHECK(*clustered_mean(apart, 1).se == doctest::Approx(std::sqrt(8.0 / 7) / std::sqrt(8)));  // s / sqrt(n)
  CHECK(*clustered_mean(apart, 2).se == doctest::Approx(0).epsilon(1e-12));                   // equal clusters
  const std::vector<double> together = {1, 1, 1, 1, 3, 3, 3, 3};
  CHECK(*clustered_mean(together, 4).se == doctest::Approx(1.0));  // two clusters, 1 and 3
  CHECK(*clustered_mean(together, 1).se < 0.5);
  CHECK(*clustered_mean(std::vector<double>{1, 1, 1, 4}, 3).se == doctest::Approx(std::sqrt(2 * 2 * 2.25 * 2.25) / 4));
  CHECK_FALSE(clustered_mean(std::vector<double>{5}, 1).se.has_value());
  CHECK(block_of(4096) == 256);
  CHECK(block_of(800) == 100);
  CHECK(block_of(3) == 1);
}

TEST_CASE("a quantile lies between two values by their distance") {
  const std::vector<double> values = {1, 2, 3, 4};
  CHECK(quantile(values, 0.25) == doctest::Approx(1.75));
  CHECK(quantile(values, 0.5) == doctest::Approx(2.5));
  CHECK(quantile(values, 1) == 4);
  CHECK(quantile(std::vector<double>{7}, 0.99) == 7);
}

TEST_CASE("the figures of some rows are those of their definitions") {
  const std::vector<RowFigures> rows = {figures(0.1, 0.5, 0.25, true), figures(0.3, 0.5, 0.5, false),
                                        figures(0.2, 0.25, 0.5, true), figures(0.4, 0.5, 0.25, true)};
  const AgreementPart part = part_of(rows);
  CHECK(part.rows == 4);
  CHECK(part.kl.mean == doctest::Approx(0.25));
  CHECK(part.kl.median == doctest::Approx(0.25));
  CHECK(part.kl.max == doctest::Approx(0.4));
  CHECK(part.same_top == doctest::Approx(0.75));
  CHECK(part.same_top_se == doctest::Approx(std::sqrt(0.75 * 0.25 / 4)));
  CHECK(part.perplexity == doctest::Approx(std::pow(64.0, 0.25)));            // 4 2 2 4
  CHECK(part.reference_perplexity == doctest::Approx(std::pow(32.0, 0.25)));  // 2 2 4 2
  CHECK(part.ratio == doctest::Approx(part.perplexity / part.reference_perplexity));
  const double step = std::log(2.0), mean = step / 4;  // differences of ln p: step 0 -step step
  const double squares = 2 * (step - mean) * (step - mean) + mean * mean + (step + mean) * (step + mean);
  CHECK(*part.ratio_se == doctest::Approx(part.ratio * std::sqrt(squares / 3 / 4)));
  CHECK(part.probability_mean == doctest::Approx(-0.25 / 4));
  CHECK(part.probability_rms == doctest::Approx(std::sqrt(3 * 0.0625 / 4)));
}

TEST_CASE("rows are told apart by how they were fed and by position") {
  std::vector<RowFigures> rows(300, figures(0.1, 0.5, 0.5, true));
  for (std::size_t i = 280; i < rows.size(); ++i) rows[i] = figures(0.7, 0.5, 0.25, false);
  const Agreement agreement = agreement_of(rows, 280);
  REQUIRE(agreement.prefill.has_value());
  REQUIRE(agreement.decode.has_value());
  CHECK(agreement.all.rows == 300);
  CHECK(agreement.prefill->rows == 280);
  CHECK(agreement.prefill->kl.mean == doctest::Approx(0.1));
  CHECK(agreement.decode->kl.mean == doctest::Approx(0.7));
  CHECK(agreement.decode->same_top == 0);
  REQUIRE(agreement.by_position.size() == 2);
  CHECK(agreement.by_position[0].from == 0);
  CHECK(agreement.by_position[0].to == 256);
  CHECK(agreement.by_position[0].part.rows == 256);
  CHECK(agreement.by_position[1].from == 256);
  CHECK(agreement.by_position[1].part.rows == 44);
  CHECK(agreement.by_position[1].part.kl.mean == doctest::Approx((24 * 0.1 + 20 * 0.7) / 44));
  CHECK(agreement.block == 37);
  REQUIRE(agreement.block_kl.size() == 9);
  CHECK(agreement.block_kl[6] == doctest::Approx(0.1));
  CHECK(agreement.block_kl[7] == doctest::Approx((21 * 0.1 + 16 * 0.7) / 37));
  CHECK(agreement.block_kl[8] == doctest::Approx(0.7));
  CHECK_FALSE(agreement_of(std::span(rows).first(10), 10).decode.has_value());
}

TEST_CASE("a row read back from either storage gives the KL of the logits themselves") {
  const test::TemporaryDirectory folder;
  constexpr int vocab = 5000, rows = 12;
  for (const LogitStorage storage : {LogitStorage::f32, LogitStorage::u16}) {
    CAPTURE(name(storage));
    ReferenceLogits reference(folder.path(), vocab, rows, storage);
    CHECK(std::filesystem::is_empty(folder.path()));  // the file has no name any more
    for (int i = 0; i < rows; ++i) reference.append(some_logits(vocab, static_cast<std::uint64_t>(i)), 17 * i);
    const bool exact = storage == LogitStorage::f32;
    for (int i = rows - 1; i >= 0; --i) {
      const std::vector<float> logits = some_logits(vocab, static_cast<std::uint64_t>(i));
      const ReferenceRow& row = reference.row(i);
      CHECK(row.top == argmax(logits));
      CHECK(row.next == 17 * i);
      CHECK(row.next_log_p == doctest::Approx(logits[static_cast<std::size_t>(17 * i)] - log_sum_exp(logits)));
      const RowFigures itself = compare_row(row, logits);
      CHECK(itself.same_top);
      CHECK(itself.kl <= (exact ? 1e-12 : 1.6e-8));
      CHECK(itself.log_p == itself.reference_log_p);
      for (const float by : {0.003f, 0.1f, 2.0f}) {
        const std::vector<float> other = moved(logits, by, static_cast<std::uint64_t>(i));
        const double truth = kl_divergence(logits, other);
        CHECK(compare_row(row, other).kl == doctest::Approx(truth).epsilon(exact ? 1e-6 : 0.03));
      }
    }
  }
}

TEST_CASE("rounding to 16 bits does not move a mean KL of a millionth") {
  const test::TemporaryDirectory folder;
  constexpr int vocab = 2000, rows = 64;
  ReferenceLogits reference(folder.path(), vocab, rows, LogitStorage::u16);
  double truth = 0, measured = 0;
  for (int i = 0; i < rows; ++i) {
    const auto seed = static_cast<std::uint64_t>(i);
    const std::vector<float> logits = some_logits(vocab, seed), other = moved(logits, 0.003f, seed);
    reference.append(logits, 0);
    truth += kl_divergence(logits, other) / rows;
    measured += compare_row(reference.row(i), other).kl / rows;
  }
  CHECK(truth > 3e-7);
  CHECK(truth < 3e-6);
  CHECK(measured == doctest::Approx(truth).epsilon(0.02));
}

TEST_CASE("the storage is exact until a gigabyte, and its size is known before") {
  CHECK(ReferenceLogits::choose(8192, 8191) == LogitStorage::f32);
  CHECK(ReferenceLogits::bytes(8192, 8191, LogitStorage::f32) == (8192ull * 4 + 32) * 8191);
  CHECK(ReferenceLogits::choose(248'320, 8191) == LogitStorage::u16);
  CHECK(ReferenceLogits::bytes(248'320, 8191, LogitStorage::u16) == (248'320ull * 2 + 32) * 8191);
}

TEST_CASE("reference logits that no disk holds, or over a file that is there, are refused") {
  const test::TemporaryDirectory folder;
  const std::string message =
      failure(ErrorKind::io, [&] { const ReferenceLogits logits(folder.path(), 1 << 30, 1 << 30, LogitStorage::f32); });
  CHECK(contains(message, "--logits"));
  const std::string file = folder.write("mine.bin", "precious");
  failure(ErrorKind::io, [&] { const ReferenceLogits logits(file, 8, 1, LogitStorage::f32); });
  CHECK(std::filesystem::file_size(file) == 8);
  const auto fresh = folder.path() / "fresh.bin";
  const ReferenceLogits logits(fresh, 8, 1, LogitStorage::f32);
  CHECK_FALSE(std::filesystem::exists(fresh));
}
