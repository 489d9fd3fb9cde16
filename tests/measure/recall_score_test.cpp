#include "measure/recall/score.h"

#include <doctest/doctest.h>

#include <rapidcheck.h>
#include <cmath>

using namespace tqkv;
using namespace tqkv::measure;

TEST_CASE("Wilson's interval is the published one") {
  // Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
  const auto check = [](int right, int asked, double low, double high) {
    const Proportion share = wilson(right, asked);
    CHECK(share.low == doctest::Approx(low).epsilon(2e-4));
    CHECK(share.high == doctest::Approx(high).epsilon(2e-4));
  };
  check(81, 263, 0.2553, 0.3662);
  check(15, 148, 0.0624, 0.1605);
  check(1, 29, 0.0061, 0.1718);
  CHECK(wilson(0, 20).low == 0);
  CHECK(wilson(0, 20).high == doctest::Approx(0.1611).epsilon(1e-3));
  CHECK(wilson(20, 20).high == 1);
  CHECK(wilson(0, 0).high == 1);
}

TEST_CASE("Student's quantile is the tabled one") {
  CHECK(student_95(1) == doctest::Approx(12.706).epsilon(1e-4));
  CHECK(student_95(4) == doctest::Approx(2.7764).epsilon(1e-4));
  CHECK(student_95(5) == doctest::Approx(2.571).epsilon(2e-3));
  CHECK(student_95(10) == doctest::Approx(2.228).epsilon(3e-4));
  CHECK(student_95(30) == doctest::Approx(2.042).epsilon(3e-4));
  CHECK(student_95(100'000) == doctest::Approx(1.960).epsilon(1e-4));
}

TEST_CASE("a paired difference counts the questions that changed, in both directions") {
  const PairedDifference paired = paired_difference({{1, 1, 1, 0}, {1, 0, 1, 1}}, {{1, 0, 0, 0}, {1, 1, 1, 1}});
  CHECK(paired.only_reference == 2);
  CHECK(paired.only_this == 1);
  CHECK(paired.contexts == 2);
  CHECK(paired.points == doctest::Approx(-12.5));
  CHECK(paired.low < -12.5);
  CHECK(paired.high > 0);
}

TEST_CASE("no change in few questions is not proof of none") {
  const std::vector<std::vector<int>> answers(4, std::vector<int>(5, 1));
  const PairedDifference few = paired_difference(answers, answers);
  CHECK(few.points == 0);
  CHECK(few.low == doctest::Approx(-few.high));
  CHECK(few.high == doctest::Approx(100 * normal_95 * std::sqrt(2.0) / 22));
  const std::vector<std::vector<int>> more(40, std::vector<int>(25, 1));
  CHECK(paired_difference(more, more).high < 0.5);
}

TEST_CASE("questions lost together in one context say less than the same number lost everywhere") {
  const std::vector<std::vector<int>> all(10, std::vector<int>(10, 1));
  std::vector<std::vector<int>> together = all, apart = all;
  together[3] = std::vector<int>(10, 0);
  for (auto& context : apart) context[0] = 0;
  const PairedDifference one = paired_difference(all, together), spread = paired_difference(all, apart);
  CHECK(one.points == doctest::Approx(-10));
  CHECK(spread.points == doctest::Approx(-10));
  CHECK(one.high - one.low > 1.5 * (spread.high - spread.low));
}

TEST_CASE("every score adds up to the answers it is made of") {
  rc::check("tasks, lengths and the needle grid", [] {
    std::vector<RecallContext> contexts;
    RecallResult result;
    const std::vector<double> depths = {0, 0.5, 1};
    std::vector<std::vector<int>> reference;
    const int count = *rc::gen::inRange(1, 12);
    int asked = 0, right = 0, needles = 0;
    for (int i = 0; i < count; ++i) {
      const bool needle = *rc::gen::arbitrary<bool>();
      const int questions = needle ? 3 : *rc::gen::inRange(1, 5);
      contexts.push_back(
          {needle ? RecallTask::needle : RecallTask::pairs, *rc::gen::element(256, 512), 0, 0, questions});
      auto& row = result.answers.emplace_back();
      auto& other = reference.emplace_back();
      for (int j = 0; j < questions; ++j) {
        row.push_back(*rc::gen::inRange(0, 2));
        other.push_back(*rc::gen::inRange(0, 2));
        right += row.back();
      }
      asked += questions;
      needles += needle ? 3 : 0;
    }
    score(result, contexts, depths, reference);
    RC_ASSERT(result.total.asked == asked);
    RC_ASSERT(result.total.right == right);
    int by_task = 0, by_length = 0, in_cells = 0;
    for (const auto& entry : result.tasks) by_task += entry.of.right;
    for (const auto& entry : result.lengths) by_length += entry.of.asked;
    for (const auto& cell : result.needle) in_cells += cell.of.asked;
    RC_ASSERT(by_task == right);
    RC_ASSERT(by_length == asked);
    RC_ASSERT(in_cells == needles);
    const PairedDifference& paired = result.paired;
    RC_ASSERT(paired.low <= paired.points && paired.points <= paired.high);
    RC_ASSERT(paired.only_this <= right);
    RC_ASSERT(paired.only_reference <= asked - right);
  });
}
