// Help, version, streams and usage errors of the program as a whole.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "model_folder.h"
#include "support/places.h"
#include "support/process.h"
#include "tqkv/version.h"

namespace {

using namespace tqkv::test;
using Output = ProcessOptions::Output;

struct Refusal {
  std::vector<std::string> arguments;
  std::vector<std::string> parts;  // of the message
};

void check_usage(const Refusal& refusal) {
  const ProcessResult result = run_tqkv(refusal.arguments);
  std::string command;
  for (const std::string& argument : refusal.arguments) command += argument + " ";
  CAPTURE(command);
  CAPTURE(result.error);
  CHECK(result.exit_code == 2);
  CHECK(result.output.empty());
  CHECK(result.error.rfind("tqkv: [usage] ", 0) == 0);
  CHECK(lines_in(result.error) == 1);
  for (const std::string& part : refusal.parts) CHECK(contains(result.error, part));
}

TEST_CASE("tqkv --help names every command and ends with examples") {
  const ProcessResult result = run_tqkv({"--help"});
  CHECK(result.exit_code == 0);
  CHECK(result.error.empty());
  for (const char* word : {"Examples:", "pocket"}) CHECK(contains(result.output, word));
  std::vector<std::string> named;  // two blanks, the name, its description
  std::istringstream lines(result.output.substr(result.output.find("Subcommands:")));
  std::string line;
  for (std::getline(lines, line); std::getline(lines, line) && !line.empty();)
    if (line.starts_with("  ") && line[2] != ' ') named.push_back(line.substr(2, line.find(' ', 2) - 2));
  const std::vector<std::string> commands{
      "generate", "serve",  "chat",   "prefill", "benchmark", "evaluate",   "compare",    "tune",   "report", "inspect",
      "pull",     "verify", "models", "logits",  "tokenize",  "detokenize", "completion", "manual", "doctor"};
  CHECK(std::is_permutation(named.begin(), named.end(), commands.begin(), commands.end()));
  for (const std::string& command : commands)
    CHECK_MESSAGE(run_tqkv({command, "--help"}).output.find(command) != std::string::npos, command);
}

TEST_CASE("tqkv alone says what to type next") {
  const ProcessResult result = run_tqkv({});
  CHECK(result.exit_code == 2);
  CHECK(result.output.empty());
  for (const char* line : {"\n  tqkv generate pocket 'Hi, what can you help me with?'\n", "\n  tqkv chat pocket\n",
                           "\n  tqkv models\n", "\n  tqkv --help\n"})
    CHECK(contains(result.error, line));
}

TEST_CASE("a model that is not there is an error that says what to type next") {
  const ProcessResult nowhere = run_tqkv({"generate", "nowhere", "Hi"});
  CHECK(nowhere.exit_code == 1);
  CHECK(lines_in(nowhere.error) == 1);
  CHECK(contains(nowhere.error,
                 "nowhere: there is no such directory: give a directory, org/name[@revision] on the Hugging "
                 "Face hub, or pocket, the bundled model. 'tqkv models' lists what is in the cache"));
  ProcessOptions offline;
  offline.environment = {{"HF_HUB_OFFLINE", "1"}, {"HF_HUB_CACHE", "/nowhere"}};
  const ProcessResult absent = run_tqkv({"generate", "org/name", "Hi"}, offline);
  CHECK(absent.exit_code == 1);
  CHECK(lines_in(absent.error) == 1);
  CHECK(contains(absent.error, "HF_HUB_OFFLINE is set: unset it, then fetch it"));
  CHECK(contains(absent.error, "tqkv pull org/name"));
}

TEST_CASE("tqkv generate --help names its options with their defaults") {
  const ProcessResult result = run_tqkv({"generate", "--help"});
  CHECK(result.exit_code == 0);
  for (const char* word : {"MODEL",
                           "PROMPT",
                           "--backend",
                           "--max-tokens",
                           "--temperature",
                           "--top-p",
                           "--top-k",
                           "--min-p",
                           "--repetition-penalty",
                           "--presence-penalty",
                           "--seed",
                           "--greedy",
                           "--system",
                           "--think",
                           "--no-think",
                           "--messages",
                           "--tools",
                           "--print-prompt",
                           "--raw",
                           "--plain",
                           "--context",
                           "--stats",
                           "--json",
                           "--file",
                           "--session",
                           "--save-session",
                           "--threads",
                           "--precision",
                           "--force",
                           "--kv-bits",
                           "--k-bits",
                           "--v-bits",
                           "--kv-group-size",
                           "--kv-scalar",
                           "--kv-seed",
                           "--kv-states",
                           "--kv-projection",
                           "--kv-rows",
                           "--kv-window",
                           "--kv-sink",
                           "--kv-layers",
                           "--kv-values",
                           "--kv-mean",
                           "--kv-boundary",
                           "--kv-split",
                           "turboquant",
                           "4096",
                           "Examples:"})
    CHECK_MESSAGE(contains(result.output, word), word);
}

TEST_CASE("tqkv --version prints the version of the project") {
  const ProcessResult result = run_tqkv({"--version"});
  CHECK(result.exit_code == 0);
  CHECK(result.output == "tqkv " + std::string(tqkv::version) + "\n");
  std::ifstream stream(std::filesystem::path(tqkv::test::source_dir()) / "CMakeLists.txt");
  const std::string project{std::istreambuf_iterator<char>(stream), {}};
  CHECK(contains(project, "project(tqkv VERSION " + std::string(tqkv::version) + " "));
}

TEST_CASE("a wrong command line is one line on standard error and exit code 2") {
  for (const Refusal& refusal : std::vector<Refusal>{
           {{"talk"}, {"there is no command 'talk'"}},
           {{"--bogus"}, {"there is no option '--bogus'"}},
           {{"generate", "pocket", "Hi", "--bogus"}, {"tqkv generate: there is no option '--bogus'"}},
           {{"generate", "pocket", "--max-tokens", "1", "--max-tokens", "2"},
            {"--max-tokens was given more than once"}},
           {{"generate", "pocket", "Hi", "--save-session", ""}, {"--save-session: it is empty: name a file"}},
           {{"chat", "pocket", "--session", ""}, {"--session: it is empty: name a file"}},
           {{"generate", "pocket", "Hi", "--max-tokens"}, {"--max-tokens needs a value"}},
           {{"generate"}, {"MODEL", "tqkv generate --help"}},
           {{"generate", "pocket", "Hi", "--bogus"}, {"--bogus"}},
           {{"generate", "pocket", "what", "is", "this"}, {"is this", "quote a text of several words"}},
           {{"generate", "pocket", "Hi", "--max-tokens", "0"}, {"--max-tokens", "0"}},
           {{"generate", "pocket", "Hi", "--max-tokens", "-5"}, {"--max-tokens"}},
           {{"generate", "pocket", "Hi", "--max-tokens", "many"}, {"--max-tokens", "many"}},
           {{"generate", "pocket", "Hi", "--max-tokens"}, {"--max-tokens"}},
           {{"generate", "pocket", "Hi", "--context", "0"}, {"--context"}},
           {{"generate", "pocket", "Hi", "--threads", "0"}, {"--threads"}},
           {{"generate", "pocket", "Hi", "--precision", "f16"}, {"--precision", "f16", "fast", "f32"}},
           {{"generate", "pocket", "Hi", "--isa", "sse"}, {"isa is one of", "sse", "avx2"}},
           {{"generate", "pocket", "Hi", "--state", "f16"}, {"--state", "f16"}},
           {{"tokenize"}, {"MODEL"}},
           {{"logits", "pocket", "--output", "x"}, {"--ids"}},
           {{"logits", "pocket", "--ids", "x"}, {"--output"}},
       })
    check_usage(refusal);
}

TEST_CASE("options that contradict each other are refused before anything is loaded") {
  for (const Refusal& refusal : std::vector<Refusal>{
           {{"generate", "nowhere"}, {"a prompt is needed"}},
           {{"generate", "nowhere", "Hi", "--think", "--no-think"}, {"--think", "--no-think"}},
           {{"generate", "nowhere", "Hi", "--messages", "m.json"}, {"--messages", "PROMPT"}},
           {{"generate", "nowhere", "--file", "f", "--messages", "m.json"}, {"--messages", "--file"}},
           {{"generate", "nowhere", "--system", "s", "--messages", "m.json"}, {"--messages", "--system"}},
           {{"generate", "nowhere", "Hi", "--plain"}, {"--plain", "--raw"}},
           {{"generate", "nowhere", "Hi", "--raw", "--system", "s"}, {"--raw", "--system"}},
           {{"generate", "nowhere", "Hi", "--raw", "--tools", "t"}, {"--raw", "--tools"}},
           {{"generate", "nowhere", "Hi", "--raw", "--think"}, {"--raw", "--think"}},
           {{"generate", "nowhere", "-", "--file", "-"}, {"standard input"}},
           {{"generate", "nowhere", "Hi", "--greedy", "--temperature", "1"}, {"--greedy", "--temperature"}},
           {{"generate", "nowhere", "Hi", "--top-k", "5", "--greedy"}, {"--greedy", "--top-k"}},
           {{"generate", "nowhere", "Hi", "--print-prompt", "--json"}, {"--print-prompt", "--json"}},
           {{"generate", "nowhere", "Hi", "--temperature", "-1"}, {"temperature is -1"}},
           {{"generate", "nowhere", "Hi", "--top-p", "0"}, {"top_p is 0"}},
           {{"generate", "nowhere", "Hi", "--top-p", "1.01"}, {"top_p is 1.01"}},
           {{"generate", "nowhere", "Hi", "--top-k", "-1"}, {"top_k is -1"}},
           {{"generate", "nowhere", "Hi", "--min-p", "2"}, {"min_p is 2"}},
           {{"generate", "nowhere", "Hi", "--repetition-penalty", "0"}, {"repetition penalty is 0"}},
           {{"generate", "nowhere", "Hi", "--presence-penalty", "nan"}, {"presence"}},
           {{"generate", "nowhere", "Hi", "--seed", "-1"}, {"--seed"}},
       })
    check_usage(refusal);
}

TEST_CASE("a cache format that does not exist is refused with those that do") {
  for (const Refusal& refusal : std::vector<Refusal>{
           {{"generate", "nowhere", "Hi", "--backend", "magic"}, {"magic", "baseline", "mlx_quant", "turboquant"}},
           {{"generate", "nowhere", "Hi", "--backend", "turboquant:z=3"}, {"z", "scalar"}},
           {{"generate", "nowhere", "Hi", "--backend", ""}, {"empty"}},
           {{"generate", "nowhere", "Hi", "--backend", "baseline,turboquant"}, {"accepts one"}},
           {{"generate", "nowhere", "Hi", "--backend", "turboquant,turboquant"}, {"twice"}},
           {{"generate", "nowhere", "Hi", "--kv-bits", "7"}, {"bits=7", "3.5"}},
           {{"generate", "nowhere", "Hi", "--backend", "mlx_quant", "--kv-bits", "3.5"}, {"3.5", "2, 3, 4, 5, 6, 8"}},
           {{"generate", "nowhere", "Hi", "--backend", "baseline", "--kv-bits", "4"}, {"baseline", "bits"}},
           {{"generate", "nowhere", "Hi", "--backend", "mlx_quant", "--kv-scalar", "best"}, {"mlx_quant", "scalar"}},
           {{"generate", "nowhere", "Hi", "--backend", "turboquant", "--kv-group-size", "64"}, {"turboquant", "group"}},
           {{"generate", "nowhere", "Hi", "--backend", "mlx_quant", "--kv-group-size", "48"}, {"48", "64"}},
           {{"generate", "nowhere", "Hi", "--backend", "turboquant:k=4", "--k-bits", "3"}, {"k=4", "k=3"}},
           {{"generate", "nowhere", "Hi", "--kv-scalar", "worst"}, {"worst", "unbiased"}},
           {{"generate", "nowhere", "Hi", "--kv-seed", "x"}, {"seed=x"}},
       })
    check_usage(refusal);
}

TEST_CASE("a full disk behind standard output is an error and not a success") {
  if (!std::filesystem::exists("/dev/full")) {
    MESSAGE("no /dev/full here: skipped");
    return;
  }
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--help"}, {"--version"}, {"generate", "pocket", "Hi", "--print-prompt"}}) {
    ProcessOptions options;
    options.output = Output::full_device;
    const ProcessResult result = run_tqkv(arguments, options);
    CHECK(result.exit_code == 1);
    CHECK(result.error.rfind("tqkv: [io] standard output: ", 0) == 0);
    CHECK(lines_in(result.error) == 1);
  }
}

TEST_CASE("a pipe that nobody reads ends the program quietly") {
  ProcessOptions options;
  options.output = Output::pipe_without_reader;
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"--help"}, {"generate", "pocket", "Hi", "--print-prompt"}}) {
    const ProcessResult result = run_tqkv(arguments, options);
    CHECK(result.exit_code == 1);
    CHECK(result.error.empty());
  }
}

TEST_CASE("a closed standard output is an error") {
  ProcessOptions options;
  options.output = Output::closed;
  const ProcessResult result = run_tqkv({"--help"}, options);
  CHECK(result.exit_code == 1);
  CHECK(result.error.rfind("tqkv: [io] standard output: ", 0) == 0);
}

}  // namespace
