// Models and contexts that are large for the machine.
#include <doctest/doctest.h>
#include <poll.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/memory_info.h"
#include "model/weights.h"
#include "model_folder.h"
#include "support/checkpoint_writer.h"
#include "support/process.h"
#include "support/sanitized.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;

/// Experts of zeros in a file of holes: more bytes than this machine has, none of them on the disk. False where the
/// file system has no such files.
bool write_huge_model(const TemporaryDirectory& folder) {
  TinyModel model = two_layers();
  model.hidden = 1024;
  model.experts = 4096;
  model.moe_intermediate = 1024;
  const std::uint64_t layer = 4096ull * 3 * 1024 * 1024 / 16 * 9;
  model.layers = static_cast<int>(total_memory() / layer) + 2;
  model.interval = model.layers;
  model.tokenizer = true;
  TinyModel small = model;  // config and tokenizer from here, the weights from below
  small.experts = 1;
  small.experts_per_token = 1;
  small.moe_intermediate = 64;
  small.layers = small.interval = 1;
  write_checkpoint(small, folder.path());
  folder.write("config.json", config_json(model));
  nlohmann::json header;
  std::uint64_t end = 0;
  for (const ExpectedTensor& tensor : expected_tensors(ModelConfig::parse(config_json(model), "config.json"))) {
    header[tensor.name] = {
        {"dtype", name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {end, end + tensor.bytes}}};
    end += tensor.bytes;
  }
  write_raw_safetensors(folder.path() / "model.safetensors", header.dump().size(), header.dump(), 0);
  std::error_code error;
  fs::resize_file(folder.path() / "model.safetensors", 8 + header.dump().size() + end, error);
  if (error) MESSAGE("this file system has no files of " << end << " bytes: skipped");
  return !error;
}

ProcessResult ask_huge(const TemporaryDirectory& folder, const ProcessOptions& options = {}) {
  return run_tqkv({"generate", folder.path().string(), "Hi", "--raw", "--max-tokens", "1", "--backend", "baseline"},
                  options);
}

TEST_CASE("weights larger than the memory are run with a warning that says what each token reads from the disk") {
  const TemporaryDirectory folder;
  if (!write_huge_model(folder)) return;
  const ProcessResult result = ask_huge(folder);
  CHECK(result.exit_code == 0);
  CHECK(contains(result.error, "fits, but about "));
  CHECK(contains(result.error, "tqkv: weights of "));
  CHECK(contains(result.error, "will be read from the disk for each token"));
}

TEST_CASE("the second process with a huge model is told about the first, one that comes later is not") {
  const TemporaryDirectory folder, runtime;
  if (!write_huge_model(folder)) return;
  ProcessOptions first, second;
  first.environment = second.environment = {{"XDG_RUNTIME_DIR", runtime.path().string()}};
  first.before_input = [&](pid_t pid) {
    siginfo_t ended{};
    while (!fs::exists(runtime / "tqkv" / std::to_string(pid)) && ended.si_pid == 0)
      ::poll(nullptr, 0, 2), ::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOHANG | WNOWAIT);
    const ProcessResult told = ask_huge(folder, second);
    CAPTURE(told.error);
    CHECK(told.exit_code == 0);
    CHECK(contains(told.error,
                   "tqkv: on this machine process " + std::to_string(pid) + " runs " + folder.path().string() + " ("));
    CHECK(contains(told.error, "of weights, the same, "));
  };
  const ProcessResult chat = run_tqkv({"chat", folder.path().string(), "--context", "64"}, first);
  CAPTURE(chat.error);
  CHECK(chat.exit_code == 0);
  CHECK(chat.error.find("on this machine process") == std::string::npos);
  CHECK(ask_huge(folder, second).error.find("on this machine process") == std::string::npos);
}

TEST_CASE("the plan is within a twentieth of the anonymous memory that is measured" *
          doctest::skip(sanitized)) {  // which fills memory with its own
  ProcessOptions options;
  for (int i = 0; i < 250; ++i) options.input += "The cache holds keys and values. ";
  for (const int chunk : {700, 2048}) {
    for (const std::string backend : {"baseline", "turboquant", "trellis:window=128"}) {
      CAPTURE(backend);
      CAPTURE(chunk);
      const ProcessResult result = run_tqkv({"generate", "pocket", "-", "--raw", "--max-tokens", "4", "--backend",
                                             backend, "--prefill-chunk", std::to_string(chunk), "--json"},
                                            options);
      REQUIRE(result.exit_code == 0);
      const auto statistics = nlohmann::json::parse(result.output)["statistics"];
      const double planned = statistics["planned_anonymous_gb"], measured = statistics["peak_anonymous_gb"];
      CHECK(planned == doctest::Approx(measured).epsilon(0.05));
    }
  }
}

TEST_CASE("a context that does not fit the memory is refused with what would fit, and --force goes on") {
  const TemporaryDirectory folder;
  // Beyond any machine: terabytes of keys and values. The plan comes before the weights are looked at.
  std::string config = replaced(pocket_text("config.json"), "\"max_position_embeddings\": 32768",
                                "\"max_position_embeddings\": 16777216");
  config = replaced(config, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 8");
  config = replaced(config, "\"full_attention_interval\": 4", "\"full_attention_interval\": 1");
  for (int layer = 0; layer < 6; ++layer) config = replaced(config, "\"linear_attention\"", "\"full_attention\"");
  const std::string model = pocket_with(folder, {{"config.json", config}});
  const std::vector<std::string> large{"generate", model,       "Hi",       "--max-tokens", "1",  "--context",
                                       "16777216", "--backend", "baseline", "--precision",  "f32"};
  const ProcessResult refused = run_tqkv(large);
  CAPTURE(refused.error);
  CHECK(refused.exit_code == 1);
  CHECK(refused.output.empty());
  CHECK(contains(refused.error, "memory plan"));  // the plan, then the one line
  const std::string line = refused.error.substr(refused.error.rfind("tqkv: "));
  CHECK(line.rfind("tqkv: [memory] ", 0) == 0);
  CHECK(lines_in(line) == 1);
  for (const char* word : {"turboquant", "mlx_quant", "--force"}) CHECK(contains(line, word));

  std::vector<std::string> force = large;
  force.push_back("--force");
  const ProcessResult forced = run_tqkv(force);
  CHECK(contains(forced.error, "going on because of --force"));
}

}  // namespace
