// The self-test of the engine on MLX: what it finds where a step is wrong.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "runtime/mlx/self_test.h"
#include "support/environment.h"
#include "support/failure.h"
#include "support/temporary_directory.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

namespace mx = ::mlx::core;
using tqkv::mlx::Operations;
using tqkv::mlx::SelfCheck;

/// Names of the checks that fail.
std::vector<std::string> failed(const Operations& operations) {
  std::vector<std::string> names;
  for (const SelfCheck& one : tqkv::mlx::self_test(operations))
    if (!one.passed()) names.push_back(one.name);
  return names;
}

bool one_of(const std::vector<std::string>& names, const std::string& begin) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return name.starts_with(begin); });
}

}  // namespace

TEST_CASE("MLX passes the self-test here") {
  const std::vector<SelfCheck> checks = tqkv::mlx::self_test(tqkv::mlx::operations());
  CHECK(checks.size() == 9);
  double seconds = 0;
  for (const SelfCheck& one : checks) {
    CHECK_MESSAGE(one.passed(), one.name << ": " << one.difference);
    seconds += one.seconds;
  }
  CHECK(tqkv::mlx::problem_of(checks).empty());
  MESSAGE("it takes " << seconds << " s");
}

TEST_CASE("a step that computes something else is found, whatever is wrong with it") {
  const Operations right = tqkv::mlx::operations();
  Operations wrong = right;
  wrong.product = [&](const mx::array& x, const mx::array& words, const mx::array& scales, const mx::array& biases) {
    const mx::array y = right.product(x, words, scales, biases);
    return mx::concatenate({mx::slice(y, {0, 0}, {y.shape(0) - 1, y.shape(1)}), mx::zeros({1, y.shape(1)})}, 0);
  };
  CHECK(failed(wrong).size() == 1);
  CHECK(one_of(failed(wrong), "4-bit product"));

  wrong = right;
  wrong.plain_product = [&](const mx::array& x, const mx::array& w) {  // as bfloat16 would
    return mx::astype(right.plain_product(mx::astype(x, mx::bfloat16), mx::astype(w, mx::bfloat16)), mx::float32);
  };
  CHECK(one_of(failed(wrong), "product, "));

  wrong = right;
  wrong.attention = [&](const mx::array& q, const mx::array& k, const mx::array& v, float scale) {
    return right.attention(q, k, v, scale * 1.01f);
  };
  CHECK(one_of(failed(wrong), "attention"));

  wrong = right;
  wrong.delta_rule = [&](const mx::array& q, const mx::array& k, const mx::array& v, const mx::array& log_g,
                         const mx::array& beta) {
    const mx::array rounded = mx::astype(mx::astype(mx::exp(log_g), mx::bfloat16), mx::float32);  // the gates alone
    return right.delta_rule(q, k, v, mx::log(rounded), beta);
  };
  CHECK(one_of(failed(wrong), "delta rule, 67"));

  wrong = right;
  wrong.attention = [&](const mx::array& q, const mx::array&, const mx::array&, float) {
    return mx::multiply(q, mx::array(std::numeric_limits<float>::quiet_NaN()));
  };
  const std::vector<SelfCheck> checks = tqkv::mlx::self_test(wrong);
  CHECK(contains(tqkv::mlx::problem_of(checks), "attention, "));
}

TEST_CASE("a passed self-test is kept, and one of another version is not believed") {
  const TemporaryDirectory folder;
  const Environment cache("XDG_CACHE_HOME", folder.path().c_str());
  const std::filesystem::path file = folder.path() / "tqkv" / "mlx-self-test";
  CHECK(tqkv::mlx::require_self_test(false).empty());
  REQUIRE(std::filesystem::exists(file));
  const std::string kept = read_text(file);
  CHECK(contains(kept, "MLX 0.32.4"));
  std::filesystem::remove(file);
  folder.write("tqkv/mlx-self-test", "MLX 0.1");
  CHECK(tqkv::mlx::require_self_test(false).empty());
  CHECK(read_text(file) == kept);
}
