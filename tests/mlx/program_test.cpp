// The program with the device mlx.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "support/failure.h"
#include "support/places.h"
#include "support/process.h"
#include "support/reference.h"

using namespace tqkv::test;

namespace {

ProcessResult run_on_mlx(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), TQKV_ON_MLX);
  return run(arguments);
}

}  // namespace

TEST_CASE("the program answers on mlx as on the processor, and says what ran") {
  const std::vector<std::string> asked{"generate",
                                       pocket_directory().string(),
                                       "Hi, what can you help me with?",
                                       "--max-tokens",
                                       "12",
                                       "--greedy",
                                       "--backend",
                                       "baseline"};
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), asked.begin(), asked.end());
    return more;
  };
  const ProcessResult mlx = run_on_mlx(with({"--device", "mlx", "--stats"}));
  CHECK(mlx.exit_code == 0);
  CHECK(mlx.output == run_on_mlx(with({"--precision", "f32"})).output);
  CHECK(contains(mlx.error, "MLX 0.32.4 on the processor, in float32"));
  CHECK(contains(mlx.error, "memory for MLX"));
  CHECK(contains(mlx.error, "f32 precision"));
}

TEST_CASE("what mlx does not do is one line and an exit code") {
  const std::string model = pocket_directory().string();
  const ProcessResult format =
      run_on_mlx({"generate", model, "Hi", "--device", "mlx", "--backend", "polarquant", "--max-tokens", "1"});
  CHECK(format.exit_code == 1);
  CHECK(contains(format.error, "[format] the device mlx does not store "));
  CHECK(contains(format.error, "or --device cpu"));
  const ProcessResult key = run_on_mlx({"generate", model, "Hi", "--device", "mlx:threads=2", "--max-tokens", "1"});
  CHECK(key.exit_code == 2);
  CHECK(contains(key.error, "mlx has no key 'threads'"));
}

TEST_CASE("what is measured on mlx has the precision that was asked for, or is refused before anything runs") {
  const std::string model = pocket_directory().string(), text = source_dir() + "/models/texts/documents.txt";
  const std::vector<std::string> asked{"evaluate",  model,        "--text",   text, "--device",    "mlx",
                                       "--backend", "turboquant", "--tokens", "24", "--no-recall", "--no-codec-level"};
  auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), asked.begin(), asked.end());
    return more;
  };
  const ProcessResult fast = run_on_mlx(with({}));  // the noise floor has the fast path
  CHECK(fast.exit_code == 2);
  CHECK(contains(fast.error, "device `mlx`: it computes in f32 precision alone here, and fast was asked for"));
  const ProcessResult result = run_on_mlx(with({"--no-noise-floor"}));
  CHECK(result.exit_code == 0);
  CHECK(contains(result.output, "MLX 0.32.4 on the processor, in float32, mlx"));
}
