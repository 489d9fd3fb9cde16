#include "runtime/mlx/kernels/text.h"

#include <fmt/format.h>

namespace tqkv::mlx {

std::string with(std::string text, std::string_view name, std::string_view value) {
  for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + value.size()))
    text.replace(at, name.size(), value);
  return text;
}

std::string constant(std::string_view name, int value) {
  return fmt::format("constexpr constant int {} = {};\n", name, value);
}

std::string constant(std::string_view name, float value) {
  return fmt::format("constexpr constant float {} = {:.9e}f;\n", name, value);
}

std::string table(std::string_view name, std::span<const float> values) {
  std::string text = fmt::format("constant float {}[{}] = {{", name, values.size());
  for (std::size_t i = 0; i < values.size(); ++i) text += fmt::format("{}{:.9e}f", i == 0 ? "" : ", ", values[i]);
  return text + "};\n";
}

}  // namespace tqkv::mlx
