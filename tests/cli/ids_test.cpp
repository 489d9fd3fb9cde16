// The doors through which others can check tqkv: logits, tokenize and detokenize.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model_folder.h"
#include "support/process.h"
#include "support/reference.h"

namespace {

using namespace tqkv::test;
using nlohmann::json;

ProcessResult with_input(std::vector<std::string> arguments, const std::string& input) {
  ProcessOptions options;
  options.input = input;
  return run_tqkv(arguments, options);
}

TEST_CASE("tokenize and detokenize are each other's inverse, line by line") {
  const std::string text = "\"Hello world\"\n\"\"\n\"tab\\t and \\ud83e\\udd80\"\n";
  const ProcessResult ids = with_input({"tokenize", "pocket"}, text);
  CHECK(ids.exit_code == 0);
  CHECK(ids.error.empty());
  CHECK(lines_in(ids.output) == 3);
  CHECK(contains(ids.output, "\n[]\n"));
  const ProcessResult back = with_input({"detokenize", "pocket"}, ids.output);
  CHECK(back.exit_code == 0);
  CHECK(back.output == "\"Hello world\"\n\"\"\n\"tab\\t and 🦀\"\n");
}

TEST_CASE("tokenize parses control strings as Hugging Face does, and --plain does not") {
  CHECK(with_input({"tokenize", "pocket"}, "\"<|im_end|>\"").output == "[8185]\n");
  const std::string plain = with_input({"tokenize", "pocket", "--plain"}, "\"<|im_end|>\"").output;
  CHECK(json::parse(plain).size() > 3);
  CHECK(with_input({"detokenize", "pocket"}, plain).output == "\"<|im_end|>\"\n");
}

TEST_CASE("tokenize reads a file and needs no weights") {
  const TemporaryDirectory folder;
  const std::string model = pocket_with(
      folder, {{"model-00001-of-00002.safetensors", std::nullopt}, {"model-00002-of-00002.safetensors", std::nullopt}});
  const std::string file = folder.write("lines.txt", "\"a\"\r\n\"b\"");
  CHECK(lines_in(run_tqkv({"tokenize", model, "--file", file}).output) == 2);
}

TEST_CASE("a line that is no JSON of its kind is refused by number after the lines before it") {
  struct Case {
    const char* command;
    const char* input;
    const char* where;
  };
  const std::vector<Case> cases = {{"tokenize", "\"a\"\n5\n", "line 2"},
                                   {"tokenize", "\"a\n", "line 1"},
                                   {"tokenize", "\"a\"\n\n\"b\"\n", "line 2"},
                                   {"detokenize", "[1]\n\"a\"\n", "line 2"},
                                   {"detokenize", "[1]\n[1, 8192]\n", "line 2: ids from 0 to 8191"},
                                   {"detokenize", "[1, -2]\n", "line 1"},
                                   {"detokenize", "[1.5]\n", "line 1"},
                                   {"detokenize", "[99999999999]\n", "line 1"},
                                   {"detokenize", "[1,\n", "line 1"}};
  for (const Case& line : cases) {
    CAPTURE(line.input);
    const ProcessResult result = with_input({line.command, "pocket"}, line.input);
    CHECK(result.exit_code == 1);
    CHECK(lines_in(result.error) == 1);
    CHECK(result.error.rfind("tqkv: [input] standard input: ", 0) == 0);
    CHECK(contains(result.error, line.where));
    CHECK(lines_in(result.output) == (std::string(line.where).starts_with("line 2") ? 1 : 0));
  }
}

TEST_CASE("logits writes one row a token as safetensors, and --last its tail") {
  const TemporaryDirectory folder;
  const std::string ids = folder.write("ids.json", "[3353, 6924, 385, 91, 635]");
  const std::string all = (folder.path() / "out/all.safetensors").string();  // the folder is created
  const std::string last = (folder.path() / "last.safetensors").string();
  const ProcessResult result =
      run_tqkv({"logits", "pocket", "--ids", ids, "--output", all, "--backend", "baseline", "--precision", "f32"});
  CHECK(result.exit_code == 0);
  CHECK(result.output.empty());
  CHECK(run_tqkv({"logits", "pocket", "--ids", ids, "--output", last, "--last", "2", "--backend", "baseline",
                  "--precision", "f32"})
            .exit_code == 0);
  const Array whole = read_arrays(all).at("logits"), tail = read_arrays(last).at("logits");
  CHECK(whole.shape == std::vector<std::int64_t>{5, 8192});
  CHECK(tail.shape == std::vector<std::int64_t>{2, 8192});
  CHECK(std::equal(tail.values.begin(), tail.values.end(), whole.values.end() - 2 * 8192));

  std::ifstream stream(all, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  const auto size =
      static_cast<std::size_t>(static_cast<unsigned char>(bytes[0]) + 256 * static_cast<unsigned char>(bytes[1]));
  CHECK(size % 8 == 0);
  CHECK(bytes.size() == 8 + size + 5 * 8192 * 4);
  const json header = json::parse(bytes.substr(8, size));
  CHECK(header["logits"]["dtype"] == "F32");
  CHECK(header["__metadata__"]["precision"] == "f32");
  CHECK(header["__metadata__"]["kv_format"] == "baseline:bits=32");
}

TEST_CASE("logits refuses ids that are not there and leaves no file") {
  const TemporaryDirectory folder;
  const std::string output = (folder.path() / "x.safetensors").string();
  const struct {
    const char* ids;
    const char* part;
  } cases[] = {{"[1, 8192]", "entry 1 is 8192"},
               {"[-1]", "entry 0 is -1"},
               {"[1.5]", "1.5"},
               {"[\"a\"]", "\"a\""},
               {"[]", "empty"},
               {"{}", "JSON array"},
               {"[1", "JSON array"}};
  for (const auto& [ids, part] : cases) {
    const ProcessResult result = with_input({"logits", "pocket", "--ids", "-", "--output", output}, ids);
    CHECK(result.exit_code == 1);
    CHECK(result.error.rfind("tqkv: [input] ", 0) == 0);
    CHECK(lines_in(result.error) == 1);
    CHECK(contains(result.error, part));
  }
  const ProcessResult more =
      with_input({"logits", "pocket", "--ids", "-", "--output", output, "--last", "3"}, "[1, 2]");
  CHECK(more.exit_code == 1);
  CHECK(contains(more.error, "--last"));
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("logits refuses an output that cannot be written") {
  const TemporaryDirectory folder;
  const std::string ids = folder.write("ids.json", "[1, 2]");
  const ProcessResult below_a_file = run_tqkv({"logits", "pocket", "--ids", ids, "--output", ids + "/x.safetensors"});
  CHECK(below_a_file.exit_code == 1);
  CHECK(contains(below_a_file.error, "tqkv: [io] "));
  const ProcessResult a_folder = run_tqkv({"logits", "pocket", "--ids", ids, "--output", folder.path().string()});
  CHECK(a_folder.exit_code == 1);
  CHECK(contains(a_folder.error, "tqkv: [io] "));
  std::size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path())) ++files;
  CHECK(files == 1);
}

}  // namespace
