#include "emulator/lint.h"

#include <fmt/format.h>

#include <cstdlib>
#include <regex>

#include "base/file.h"
#include "support/temporary_directory.h"

namespace tqkv::test::emulator {
namespace {

constexpr int most_threads = 1024, most_shared_bytes = 32768;

/// What clang says about `text`, and how it understood it.
struct Read {
  std::string problem, tree;
};

Read read(const std::string& text, const std::string& flags) {
  const TemporaryDirectory folder;
  const std::string in = folder.write("kernel.cpp", text);
  const std::string out = (folder / "tree").string(), log = (folder / "log").string();
  const std::string command = fmt::format(
      "{} -x c++ {} -fsyntax-only -Xclang -ast-dump -target aarch64-linux-gnu -nostdinc -isystem {} "
      "-Xclang -fallow-half-arguments-and-returns -fno-color-diagnostics -Wno-unknown-attributes "
      "-Wno-duplicate-decl-specifier {} >{} 2>{}",
      TQKV_LINT_CLANG, flags, TQKV_LINT_STUBS, in, out, log);
  const int status = std::system(command.c_str());
  return {status == 0 ? "" : read_text(log) + fmt::format("(status {})", status), read_text(out)};
}

// Metal has no such words.
const char* const poison =
    "#pragma GCC poison double goto new delete throw try catch dynamic_cast typeid virtual std thread_local\n";

}  // namespace

bool has_lint() {
  return *TQKV_LINT_CLANG != '\0';
}

std::string lint(const KernelText& kernel, int threads) {
  if (threads > most_threads) return fmt::format("{} threads in a threadgroup", threads);
  if (const int bytes = threadgroup_bytes(kernel); bytes > most_shared_bytes)
    return fmt::format("{} bytes of threadgroup memory", bytes);
  static const std::regex bare(R"((^|[(,;{}]|return)\s*(const )?(\w*int\w*|float|half|bfloat16_t|auto)\s*[*&])");
  if (std::smatch found; std::regex_search(kernel.text, found, bare))
    return "a pointer without an address space: " + found.str();
  // Metal is C++14 until its version 4.
  const std::string flags =
      "-std=c++14 -Wall -Wextra -Werror -Wvla -Wimplicit-float-conversion -Wno-unused-function "
      "-Wno-unused-const-variable "
      "-Wno-unused-but-set-variable";
  std::string text = as_lint(kernel);
  const std::size_t headers = text.find("#line");
  text.insert(headers, poison);
  const Read made = read(text, flags);
  if (!made.problem.empty()) return made.problem;
  return made.tree.find("LambdaExpr") != std::string::npos ? "a lambda" : "";
}

std::string lint_header(const std::string& header, const std::string& use) {
  std::string text = read_text(std::string(TQKV_MLX_HEADERS) + "/mlx/backend/metal/kernels/" + header);
  text = std::regex_replace(text, std::regex(R"(constant (\w+) (\w+) \[\[function_constant)"),
                            "extern constant $1 $2 [[function_constant");
  text =
      std::regex_replace(text, std::regex(R"(threadgroup (\w+) (\w+)\[([^\]]*)\];)"), "static threadgroup $1 $2[$3];");
  return read("#include \"mlx/backend/metal/kernels/utils.h\"\n" + text + "\n" + use, "-std=c++17").problem;
}

}  // namespace tqkv::test::emulator
