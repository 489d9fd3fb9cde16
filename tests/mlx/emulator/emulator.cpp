#include "emulator/emulator.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>

#include "base/checksum.h"
#include "base/file.h"
#include "emulator/machine.h"
#include "emulator/text.h"
#include "support/temporary_directory.h"

namespace tqkv::test::emulator {
namespace {

namespace fs = std::filesystem;
namespace mx = ::mlx::core;

const fs::path sources = TQKV_EMULATOR_SOURCES;
const fs::path folder = TQKV_EMULATED;  // what is compiled

void write(const fs::path& file, const std::string& text) {
  std::ofstream stream(file, std::ios::binary);
  stream << text;
  if (!stream.flush()) throw std::runtime_error("cannot write " + file.string());
}

/// Runs a command; where it fails, what it said.
std::string problem_of(const std::string& command, const fs::path& log) {
  const int status = std::system((command + " >" + log.string() + " 2>&1").c_str());
  return status == 0 ? "" : read_text(log) + fmt::format("(status {})", status);
}

std::string checksum_of(const std::string& text) {
  return checksum_128(std::as_bytes(std::span(text)));
}

/// The file that `command` makes of `text`, from an earlier run where there is one. {in} and {out} are its files.
fs::path compiled(const std::string& name, const std::string& text, const std::string& command) {
  static const std::string headers = read_text(sources / "metal.h") + read_text(sources / "host.h") +
                                     read_text(sources / "machine.cpp") + read_text(sources / "job.cpp");
  const fs::path made = folder / fmt::format("{}-{}", name, checksum_of(text + command + headers));
  if (fs::exists(made)) return made;
  fs::create_directories(folder);
  const TemporaryDirectory own;
  const fs::path in = own.path() / "kernel.cpp",
                 out = folder / fmt::format("{}.{}", made.filename().string(), getpid());
  write(in, text);
  const std::string problem =
      problem_of(fmt::format(fmt::runtime(command), fmt::arg("in", in.string()), fmt::arg("out", out.string())),
                 own.path() / "log");
  if (!problem.empty()) throw std::runtime_error("the text does not compile: " + problem);
  fs::rename(out, made);
  return made;
}

KernelText text_of(const mlx::KernelCall& call, const Options& options) {
  KernelText kernel = exported(call);
  if (options.change) kernel.text = options.change(kernel.text);
  return kernel;
}

std::vector<mx::array> evaluated(const std::vector<mx::array>& inputs) {
  std::vector<mx::array> whole;
  for (const mx::array& input : inputs) whole.push_back(mx::contiguous(input));
  mx::eval(whole);
  return whole;
}

/// Memory of exactly this size, so that the address sanitizer sees every byte beyond it.
using Memory = std::unique_ptr<unsigned char[]>;

std::vector<std::size_t> output_bytes(const mlx::KernelCall& call) {
  std::vector<std::size_t> bytes;
  for (std::size_t i = 0; i < call.shapes.size(); ++i) {
    std::size_t size = mx::size_of(call.types[i]);
    for (const int extent : call.shapes[i]) size *= static_cast<std::size_t>(extent);
    bytes.push_back(size);
  }
  return bytes;
}

mx::array array_of(const unsigned char* bytes, std::size_t size, const mx::Shape& shape, mx::Dtype type) {
  const mx::array raw(reinterpret_cast<const std::uint8_t*>(bytes), {static_cast<int>(size)}, mx::uint8);
  return mx::reshape(mx::view(raw, type), shape);
}

struct Loaded {
  LaneFunction* lane;
};

/// Kept for the life of the process: nothing is unloaded.
Loaded loaded(const fs::path& library) {
  static std::map<fs::path, Loaded> all;
  if (const auto found = all.find(library); found != all.end()) return found->second;
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) throw std::runtime_error(dlerror());
  const auto symbol = [&](const char* name) {
    void* address = dlsym(handle, name);
    if (!address) throw std::runtime_error(fmt::format("{} is missing", name));
    return address;
  };
  reinterpret_cast<Attach*>(symbol("tqkv_attach"))(&host());
  return all[library] = {reinterpret_cast<LaneFunction*>(symbol("tqkv_lane"))};
}

}  // namespace

mlx::RunKernel emulated(const Options& options) {
  return [options](const mlx::KernelCall& call) {
    const std::vector<mx::array> inputs = evaluated(call.inputs);
    const std::string command = fmt::format("{} -std=c++17 -O1 -w -shared -fPIC -I{} {{in}} -o {{out}}",
                                            TQKV_EMULATOR_COMPILER, sources.string());
    Launch launch;
    launch.lane = loaded(compiled(call.name, as_cpp(text_of(call, options)), command)).lane;
    launch.grid = call.grid;
    launch.group = call.group;
    launch.seed = options.seed;
    for (const mx::array& input : inputs)
      launch.buffers.push_back(const_cast<std::uint8_t*>(input.data<std::uint8_t>()));
    const std::vector<std::size_t> bytes = output_bytes(call);
    std::vector<std::vector<unsigned char>> outputs;
    for (const std::size_t size : bytes) outputs.emplace_back(size, 0xff);  // NaN
    for (std::vector<unsigned char>& output : outputs) launch.buffers.push_back(output.data());
    run_coroutines(launch);
    std::vector<mx::array> made;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      made.push_back(array_of(outputs[i].data(), bytes[i], call.shapes[i], call.types[i]));
    return made;
  };
}

mlx::RunKernel sanitized(const std::string& sanitizers, const Options& options) {
  return [sanitizers, options](const mlx::KernelCall& call) {
    const std::string plain = fmt::format("{} -std=c++17 -O1 -g1 -w -I{}", TQKV_EMULATOR_COMPILER, sources.string());
    const std::string flags = fmt::format("{} -fsanitize={} -fno-sanitize-recover=all", plain, sanitizers);
    const auto object = [&](const std::string& file, const std::string& with) {
      return compiled(file + "-object", read_text(sources / (file + ".cpp")), with + " -c {in} -o {out}").string();
    };
    const std::string machine = object(
        "machine", sanitizers == "thread" ? plain + " -DTQKV_THREAD_SANITIZER" : flags + " -DTQKV_ADDRESS_SANITIZER");
    const fs::path program =
        compiled(call.name, as_cpp(text_of(call, options)),
                 fmt::format("{} {{in}} -x none {} {} -o {{out}} -lpthread", flags, machine, object("job", flags)));
    const std::vector<mx::array> inputs = evaluated(call.inputs);
    const TemporaryDirectory own;
    std::string job = fmt::format("{} {}", sanitizers == "thread" ? 1 : 0, options.seed);
    for (const int extent : call.grid) job += fmt::format(" {}", extent);
    for (const int extent : call.group) job += fmt::format(" {}", extent);
    const std::vector<std::size_t> bytes = output_bytes(call);
    job += fmt::format(" {} {}", inputs.size(), bytes.size());
    for (const mx::array& input : inputs) job += fmt::format(" {}", input.nbytes());
    for (const std::size_t size : bytes) job += fmt::format(" {}", size);
    job += "\n";
    for (const mx::array& input : inputs)
      job.append(reinterpret_cast<const char*>(input.data<std::uint8_t>()), input.nbytes());
    write(own.path() / "job", job);
    const std::string problem = problem_of(
        fmt::format("{} {} {}", program.string(), (own.path() / "job").string(), (own.path() / "made").string()),
        own.path() / "log");
    if (!problem.empty()) throw std::runtime_error(problem);
    const std::string made = read_text(own.path() / "made");
    std::vector<mx::array> outputs;
    std::size_t at = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      outputs.push_back(
          array_of(reinterpret_cast<const unsigned char*>(made.data()) + at, bytes[i], call.shapes[i], call.types[i]));
      at += bytes[i];
    }
    return outputs;
  };
}

}  // namespace tqkv::test::emulator
