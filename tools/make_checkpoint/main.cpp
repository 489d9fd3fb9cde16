// make-checkpoint: the shape of a config, random weights, a tokenizer. docs/measuring.md says what for.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "cli/options/number_checks.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/output.h"
#include "random_tensor.h"
#include "shards.h"
#include "tqkv/checkpoint.h"
#include "tqkv/error.h"
#include "tqkv/model_config.h"
#include "tqkv/tokenizer.h"

namespace tqkv::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

struct Options {
  std::string config, folder;
  int layers = 0;  // 0: all
  std::uint64_t seed = 0;
  std::uint64_t shard_bytes = std::uint64_t{5} << 30;
};

/// The bundled model's files of text, with the ids that end an answer.
struct BundledText {
  std::vector<TextFile> files;
  int vocabulary = 0;
  int im_end = 0, endoftext = 0;
};

BundledText bundled_text() {
  const fs::path folder = locate_model("pocket");
  BundledText text;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"})
    text.files.push_back({name, read_text(folder / name)});
  const std::string where = (folder / "tokenizer.json").string();
  const Tokenizer tokenizer = Tokenizer::parse(text.files[0].text, text.files[1].text, where);
  const auto id_of = [&](const char* token) {
    if (const auto id = tokenizer.control_id(token)) return *id;
    throw Error(ErrorKind::tokenizer, fmt::format("{}: has no token {}, which ends an answer", where, token));
  };
  text.vocabulary = tokenizer.size();
  text.im_end = id_of("<|im_end|>");
  text.endoftext = id_of("<|endoftext|>");
  ordered_json generation = ordered_json::parse(read_text(folder / "generation_config.json"));
  generation["eos_token_id"] = {text.im_end, text.endoftext};
  text.files.push_back({"generation_config.json", generation.dump(2) + "\n"});
  return text;
}

/// `text` (a config that ModelConfig::parse() takes) with its first `layers` layers only and other ends of text.
std::string changed_config(const std::string& text, int layers, const BundledText& bundled) {
  ordered_json document = ordered_json::parse(text);
  const std::string type = document["model_type"];
  const bool nested = type.find("_text") == std::string::npos && document.contains("text_config");
  ordered_json& shape = nested ? document["text_config"] : document;
  shape["num_hidden_layers"] = layers;
  if (const auto types = shape.find("layer_types"); types != shape.end() && types->is_array())
    types->erase(types->begin() + layers, types->end());
  if (nested && shape.contains("eos_token_id")) shape["eos_token_id"] = bundled.endoftext;
  document["eos_token_id"] = {bundled.im_end, bundled.endoftext};
  return document.dump(4) + "\n";
}

void make(const Options& options) {
  const std::string original = read_text(options.config);
  const ModelConfig whole = ModelConfig::parse(original, options.config);
  if (options.layers > whole.num_layers())
    throw Error(ErrorKind::usage, fmt::format("--layers {}: {} has {} layers, expected 1 to {}", options.layers,
                                              options.config, whole.num_layers(), whole.num_layers()));
  const BundledText bundled = bundled_text();
  if (bundled.vocabulary > whole.vocab_size)
    throw Error(ErrorKind::config,
                fmt::format("{}: vocab_size is {}, but the bundled tokenizer has {} ids: expected at least as many",
                            options.config, whole.vocab_size, bundled.vocabulary));
  const std::string config_text =
      changed_config(original, options.layers == 0 ? whole.num_layers() : options.layers, bundled);
  const ModelConfig config = ModelConfig::parse(config_text, options.config);

  const std::vector<RandomTensor> tensors = random_tensors(config, options.seed);
  const std::vector<Shard> shards =
      plan_shards(tensors, options.shard_bytes, fmt::format("random, seed {}", options.seed));
  std::vector<TextFile> texts = bundled.files;
  texts.push_back({"model.safetensors.index.json", index_of(shards)});
  texts.push_back({"config.json", config_text});  // last: a folder without it is no checkpoint

  const cli::Interrupt interrupt;
  const auto begin = std::chrono::steady_clock::now();
  std::uint64_t bytes = 0;
  write_folder(options.folder, shards, texts, *interrupt.flag(), [&](const Shard& shard) {
    bytes += shard.bytes();
    cli::print(fmt::format("{}: {} tensors, {} bytes, data from byte {}\n", shard.name, shard.tensors.size(),
                           shard.bytes(), shard.opening.size()));
  });
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  for (const TextFile& text : texts) bytes += text.text.size();
  cli::print(fmt::format("{}: {} layers, {} tensors, seed {}: {} bytes in {:.1f} s, {:.2f} GB/s\n", options.folder,
                         config.num_layers(), tensors.size(), options.seed, bytes, seconds,
                         static_cast<double>(bytes) / seconds / 1e9));
}

int execute(int argc, const char* const* argv) {
  Options options;
  CLI::App program("Writes a checkpoint in MLX format with the shape of a config and random weights.",
                   "make-checkpoint");
  program.add_option("CONFIG", options.config, "A config.json")->required()->type_name("");
  program.add_option("DIR", options.folder, "Where to: a new folder or an empty one")->required()->type_name("");
  program.add_option("--layers", options.layers, "Only the first N layers (default: all)")
      ->transform(cli::whole_number(1, 1 << 20))
      ->type_name("N");
  program.add_option("--seed", options.seed, "Of the weights")
      ->transform(cli::whole_number(0, UINT64_MAX))
      ->type_name("N")
      ->capture_default_str();
  program.add_option("--shard-bytes", options.shard_bytes, "Most bytes of tensors in one file, if it has several")
      ->transform(cli::whole_number(1, std::uint64_t{1} << 50))
      ->type_name("N")
      ->capture_default_str();
  try {
    program.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    cli::print(program.help());
    return 0;
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorKind::usage, fmt::format("{}: see 'make-checkpoint --help'", error.what()));
  }
  make(options);
  return 0;
}

void report(std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  cli::print_error(fmt::format("make-checkpoint: {}\n", message));
}

int run(int argc, const char* const* argv) {
  cli::end_on_signals();
  try {
    return execute(argc, argv);
  } catch (const cli::ClosedPipe&) {
    return 1;
  } catch (const Cancelled&) {
    report("interrupted: what was written is removed");
    return cli::interrupted_exit_code;
  } catch (const Error& error) {
    report(error.what());
    return error.exit_code();
  } catch (const std::exception& error) {
    report(fmt::format("[internal] {}", error.what()));
    return 1;
  }
}

}  // namespace
}  // namespace tqkv::tools

int main(int argc, char** argv) {
  return tqkv::tools::run(argc, argv);
}
