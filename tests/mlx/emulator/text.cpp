#include "emulator/text.h"

#include <fmt/format.h>
#include <mlx/export.h>

#include <map>
#include <regex>
#include <sstream>
#include <stdexcept>

namespace tqkv::test::emulator {
namespace {

namespace mx = ::mlx::core;

const std::regex& threadgroup_array() {
  static const std::regex pattern(R"(threadgroup (\w+) (\w+)\[([^\]]*)\];)");
  return pattern;
}

std::string signature_of(const KernelText& kernel) {
  const std::size_t begin = kernel.text.find(kernel.function + "(");
  const std::size_t end = kernel.text.find(") {", begin);
  if (begin == std::string::npos || end == std::string::npos) throw std::runtime_error("no kernel in the text");
  const std::size_t first = begin + kernel.function.size() + 1;
  return kernel.text.substr(first, end - first);
}

/// Without attributes, and without the address spaces of parameters.
std::string without_attributes(std::string text) {
  text = std::regex_replace(text, std::regex(R"(\[\[kernel\]\] )"), "");
  text = std::regex_replace(text, std::regex(R"( \[\[\w+(\(\d+\))?\]\])"), "");
  return std::regex_replace(text, std::regex(R"(const (constant|device|threadgroup) )"), "const ");
}

/// A call of the kernel, with buffers from `buffers` and positions from `position`.
std::string call_of(const KernelText& kernel, const std::string& position) {
  std::string arguments;
  int buffer = 0;
  for (const Parameter& one : parameters_of(kernel)) {
    arguments += arguments.empty() ? "" : ", ";
    arguments += one.attribute == "buffer" ? fmt::format("static_cast<{}>(buffers[{}])", one.type, buffer++)
                                           : position + one.attribute;
  }
  return kernel.function + "(" + arguments + ")";
}

}  // namespace

KernelText exported(const mlx::KernelCall& call) {
  KernelText kernel;
  const auto take = [&](const mx::ExportCallbackInput& input) {
    const auto name = input.find("name");
    if (name == input.end() || std::get<std::string>(name->second) != "CustomKernel") return;
    for (const mx::StateT& state : std::get<std::vector<mx::StateT>>(input.at("arguments")))
      if (const std::string* text = std::get_if<std::string>(&state))
        (kernel.function.empty() ? kernel.function : kernel.text) = *text;
  };
  mx::Args inputs;  // of the same shapes
  for (const mx::array& input : call.inputs) inputs.push_back(mx::zeros(input.shape(), input.dtype()));
  mx::export_function(
      mx::ExportCallback(take),
      [&](const mx::Args& arguments) {
        mlx::KernelCall same = call;
        same.inputs = arguments;
        return mlx::run_on_metal(same);
      },
      inputs);
  if (kernel.text.empty()) throw std::runtime_error("MLX exported no kernel");
  return kernel;
}

std::vector<Parameter> parameters_of(const KernelText& kernel) {
  static const std::regex pattern(R"(^\s*(.*?)\s*\b(\w+) \[\[(\w+)(\(\d+\))?\]\]\s*$)");
  static const std::regex space(R"(\b(device|constant) )");
  std::vector<Parameter> parameters;
  std::istringstream stream(signature_of(kernel));
  for (std::string line; std::getline(stream, line, ',');) {
    std::smatch parts;
    if (!std::regex_match(line, parts, pattern)) throw std::runtime_error("not a parameter: " + line);
    parameters.push_back({std::regex_replace(parts[1].str(), space, ""), parts[3].str()});
  }
  return parameters;
}

std::string as_cpp(const KernelText& kernel) {
  const std::string text = std::regex_replace(without_attributes(kernel.text), threadgroup_array(),
                                              "static $1 $2[$3]; tqkv_emulated::host->fresh($2, sizeof $2);");
  return fmt::format(
      "#include \"metal.h\"\n#line 1 \"kernel.metal\"\n{}\n"
      "extern \"C\" void tqkv_attach(const tqkv::test::emulator::Host* host) {{ tqkv_emulated::host = host; }}\n"
      "extern \"C\" void tqkv_lane(void* const* buffers, const tqkv::test::emulator::Position* position) {{\n"
      "  {};\n}}\n",
      text, call_of(kernel, "position->"));
}

std::string as_cuda(const KernelText& kernel) {
  std::string text = std::regex_replace(without_attributes(kernel.text), threadgroup_array(), "__shared__ $1 $2[$3];");
  text = std::regex_replace(text, std::regex(R"(\b(device|thread) |(constexpr )constant )"), "$2");
  text = std::regex_replace(text, std::regex(R"((^|\n)(inline|void) )"), "$1static __device__ $2 ");
  text = std::regex_replace(text, std::regex(R"((^|\n)constant float)"), "$1static __device__ const float");
  return fmt::format(
      "{}\n__global__ void tqkv_entry(Buffers all, unsigned threads) {{\n"
      "  void* const* buffers = all.of;\n  const Position position;\n"
      "  if (position.thread_position_in_grid.x < threads) {};\n}}\n"
      "void tqkv_launch(const Buffers& buffers, dim3 groups, dim3 group, unsigned threads) {{\n"
      "  tqkv_entry<<<groups, group>>>(buffers, threads);\n}}\n",
      text, call_of(kernel, "position."));
}

std::string as_lint(const KernelText& kernel) {
  return "#include <metal_stdlib>\n#include \"mlx/backend/metal/kernels/utils.h\"\n#line 1 \"kernel.metal\"\n" +
         std::regex_replace(kernel.text, threadgroup_array(), "static threadgroup $1 $2[$3];");
}

int threadgroup_bytes(const KernelText& kernel) {
  std::map<std::string, int> constants;
  const std::regex constant(R"(constexpr constant int (\w+) = (\d+);)");
  const std::sregex_iterator none;
  for (std::sregex_iterator at(kernel.text.begin(), kernel.text.end(), constant); at != none; ++at)
    constants[(*at)[1]] = std::stoi((*at)[2]);
  int bytes = 0;
  for (std::sregex_iterator at(kernel.text.begin(), kernel.text.end(), threadgroup_array()); at != none; ++at) {
    if ((*at)[1] != "float") throw std::runtime_error("the size of " + (*at)[1].str() + " is not known");
    int product = 4;
    const std::string size = (*at)[3];
    const std::regex factor(R"(\w+)");
    for (std::sregex_iterator word(size.begin(), size.end(), factor); word != none; ++word)
      product *= constants.contains(word->str()) ? constants[word->str()] : std::stoi(word->str());
    bytes += product;
  }
  return bytes;
}

}  // namespace tqkv::test::emulator
