// The self-test of the kernels: what it finds where a kernel is wrong or none.
#include <doctest/doctest.h>

#include <algorithm>
#include <stdexcept>

#include "emulator/emulator.h"
#include "kernel_inputs.h"
#include "support/failure.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

const kernels::KernelShape shape{side_of(4), side_of(3, KvScalar::best), 8, 2, 256};

/// Names of the checks that fail.
std::vector<std::string> failed(const kernels::RunKernel& run) {
  std::vector<std::string> names;
  for (const kernels::SelfCheck& one : kernels::kernel_checks(run, shape))
    if (!one.passed()) names.push_back(one.name);
  return names;
}

bool all_of(const std::vector<std::string>& names, const std::string& begin) {
  return std::all_of(names.begin(), names.end(), [&](const std::string& name) { return name.starts_with(begin); });
}

kernels::RunKernel planted(const std::string& right, const std::string& wrong) {
  return emulator::emulated({3, [=](std::string text) {
                               if (const std::size_t at = text.find(right); at != std::string::npos)
                                 text.replace(at, right.size(), wrong);
                               return text;
                             }});
}

}  // namespace

TEST_CASE("the kernels pass their self-test, whatever the format") {
  const std::vector<kernels::SelfCheck> checks = kernels::kernel_checks(emulator::emulated(), shape);
  CHECK(checks.size() == 11);
  for (const kernels::SelfCheck& one : checks) CHECK_MESSAGE(one.passed(), one.name << ": " << one.difference);
  CHECK(kernels::problem_of(checks).empty());
  for (const kernels::KernelShape& other :
       std::vector<kernels::KernelShape>{{side_of(16), side_of(2), 4, 4, 64},
                                         {side_of(5, KvScalar::unbiased), side_of(5, KvScalar::unbiased), 3, 1, 128}})
    CHECK(kernels::problem_of(kernels::kernel_checks(emulator::emulated({3, {}}), other)) == "");
}

TEST_CASE("a kernel that computes something else fails, and it alone") {
  const std::vector<std::string> wide = failed(planted("block + t < end ?", "block + t < end - 1 ?"));
  CHECK(wide.size() == 2);  // a single token has all the weight, whatever its score
  CHECK(all_of(wide, "attention kernel, keys turboquant 4 bit"));
  const std::vector<std::string> joined = failed(planted("* other;", "* own;"));  // of the runs of a threadgroup
  CHECK(joined.size() >= 2);
  CHECK(all_of(joined, "attention kernel"));
  const std::vector<std::string> mean = failed(planted("token >= mean_from", "token > mean_from"));
  CHECK(mean.size() >= 2);
  CHECK(all_of(mean, "attention kernel"));
  const std::vector<std::string> codes = failed(planted("z > tqkv_thresholds", "z > 0.01f + tqkv_thresholds"));
  CHECK(codes.size() >= 4);
  CHECK(all_of(codes, "encoding kernel"));
  const std::vector<std::string> scalars = failed(planted("norm > 0.0f ? min", "norm > 0.0f ? 0.99f * min"));
  CHECK(scalars.size() == 4);
  CHECK(std::all_of(scalars.begin(), scalars.end(), [](const std::string& name) { return name.ends_with("scalars"); }));
}

TEST_CASE("a kernel that does not compile fails with the reason") {
  const kernels::RunKernel none = [](const kernels::KernelCall&) -> std::vector<mx::array> {
    throw std::runtime_error("[metal::Device] Unable to build metal library from source");
  };
  CHECK(failed(none).size() == 11);
  const std::string problem = kernels::problem_of(kernels::kernel_checks(none, shape));
  CHECK(contains(problem,
                 "attention kernel, keys turboquant 4 bit, scalar corrected, values turboquant 3 bit, scalar best, "
                 "8 heads over 2, 256 channels, tokens 0 to 0: [metal::Device] Unable to build"));
  CHECK(contains(problem, "encoding kernel"));
  // Here, without Metal, that of the engine is such a kernel.
  CHECK(contains(kernels::problem_of(kernels::kernel_checks(kernels::run_on_metal, shape)), "No Metal back-end"));
}

TEST_CASE("the kernels are timed next to MLX's attention") {
  const kernels::AttentionTimes times = kernels::attention_times(emulator::emulated(), shape, 70);
  for (const double seconds : {times.kernel, times.kernel_plain, times.mlx_plain}) {
    CHECK(seconds > 0);
    CHECK(seconds < 60);
  }
}
