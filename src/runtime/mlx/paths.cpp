#include "runtime/mlx/paths.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "runtime/mlx/kept_results.h"

namespace tqkv::mlx {
namespace {

constexpr const char* own_kernel = "own kernel, on packed codes";
constexpr const char* operations_alone = "MLX's operations";

bool coded(const SideFormat& side) {
  return side.kind == SideFormat::Kind::turboquant;
}

std::string name_of(const KernelShape& shape) {
  return fmt::format("K {}, V {}, {} heads over {}, {} channels", shape.keys.describe(), shape.values.describe(),
                     shape.heads, shape.kv_heads, shape.dim);
}

/// The first line of what a compiler or a check says.
std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

}  // namespace

Paths::Paths(RunKernel run, std::string why) : run_(std::move(run)), why_(std::move(why)) {}

Paths::Choice Paths::tested(const KernelShape& shape) {
  const std::string kept = fmt::format("kernels {}, {}", name_of(shape), kernel_text_digest(shape));
  const bool keys = coded(shape.keys), values = coded(shape.values);
  if (has_result(kept)) return {true, keys, values};
  std::vector<SelfCheck> checks = kernel_checks(run_, shape);
  const auto failed = [&](std::string_view kernel, const SideFormat* side) {
    std::vector<SelfCheck> own;
    std::copy_if(checks.begin(), checks.end(), std::back_inserter(own), [&](const SelfCheck& check) {
      return check.name.find(kernel) == 0 && (!side || check.name.find(side->describe()) != std::string::npos);
    });
    const std::string problem = first_line(problem_of(own));
    if (!problem.empty())
      warnings_.push_back(
          fmt::format("the {} of {} is off, MLX's operations run instead: {}", kernel, name_of(shape), problem));
    return !problem.empty();
  };
  Choice choice;
  choice.attend = !failed("attention kernel", nullptr);
  choice.encode_keys = keys && !failed("encoding kernel", &shape.keys);
  choice.encode_values =
      values && (shape.values == shape.keys ? choice.encode_keys : !failed("encoding kernel", &shape.values));
  if (choice.attend && choice.encode_keys == keys && choice.encode_values == values) keep_result(kept);
  return choice;
}

LayerKernels Paths::choose(const KernelShape& shape) {
  const std::lock_guard lock(mutex_);
  const std::string name = fmt::format("K {}, V {}", shape.keys.describe(), shape.values.describe());
  const bool any = run_ && has_kernel(shape.keys, shape.values, shape.heads, shape.kv_heads, shape.dim);
  const std::string otherwise = run_ ? fmt::format("{}: there is no kernel for it", operations_alone)
                                     : fmt::format("{}: {}", operations_alone, why_);
  if (!any) {
    steps_["decode attention, " + name] = otherwise;
    for (const SideFormat& side : {shape.keys, shape.values})
      if (coded(side)) steps_["encoding, " + side.describe()] = otherwise;
    return {};
  }
  auto found = choices_.find(name);
  if (found == choices_.end()) found = choices_.emplace(name, tested(shape)).first;
  const Choice& choice = found->second;
  const auto how = [](bool on) {
    return on ? std::string(own_kernel) : fmt::format("{}: the kernel failed its test", operations_alone);
  };
  steps_["decode attention, " + name] = how(choice.attend);
  if (coded(shape.keys)) steps_["encoding, " + shape.keys.describe()] = how(choice.encode_keys);
  if (coded(shape.values)) steps_["encoding, " + shape.values.describe()] = how(choice.encode_values);
  const auto run = [&](bool on) { return on ? run_ : RunKernel(); };
  return {run(choice.attend), run(choice.encode_keys), run(choice.encode_values)};
}

void Paths::tell(const std::string& step, std::string how) {
  const std::lock_guard lock(mutex_);
  steps_[step] = std::move(how);
}

std::vector<std::pair<std::string, std::string>> Paths::steps() const {
  const std::lock_guard lock(mutex_);
  return {steps_.begin(), steps_.end()};
}

std::vector<std::string> Paths::warnings() const {
  const std::lock_guard lock(mutex_);
  return warnings_;
}

}  // namespace tqkv::mlx
