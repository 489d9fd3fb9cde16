#include "tqkv/checkpoint.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <span>

#include "base/file.h"
#include "loaders/tensor_names.h"
#include "support/checkpoint_writer.h"
#include "support/failure.h"
#include "support/places.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;

namespace {

std::string refusal(const fs::path& directory) {
  return failure(ErrorKind::checkpoint, [&] { Checkpoint::open(directory); });
}

constexpr const char* second_shard = "model-00002-of-00003.safetensors";
constexpr const char* index_file = "model.safetensors.index.json";

}  // namespace

TEST_CASE("the pocket checkpoint opens with every tensor of its index") {
  const auto checkpoint = Checkpoint::open(fs::path(test::source_dir()) / "models/pocket");
  CHECK(checkpoint.tensors().size() == 357);
  CHECK(checkpoint.tensor_bytes() == 23415776);
  CHECK(checkpoint.mapped_bytes() == 15435056 + 8026256);
  const Tensor& head = checkpoint.tensor("language_model.lm_head.weight");
  CHECK(head.dtype == DType::u32);
  CHECK(head.shape == std::vector<std::int64_t>{8192, 48});
  CHECK(head.bytes.size() == 8192 * 48 * 4);
  CHECK(checkpoint.text("config.json")->find("qwen3_5_moe") != std::string::npos);
  CHECK(!checkpoint.text("README.txt"));
  CHECK(checkpoint.find("language_model.nothing") == nullptr);
  CHECK(contains(failure(ErrorKind::checkpoint, [&] { checkpoint.tensor("language_model.nothing"); }),
                 "tensor language_model.nothing is missing"));
}

TEST_CASE("tensors have the bytes that were written, at odd offsets too, from one file or several") {
  for (const bool odd : {false, true})
    for (const int shards : {1, 3}) {
      const TemporaryDirectory directory;
      TinyModel model = two_layers(3);
      model.odd_offsets = odd;
      model.shards = shards;
      write_checkpoint(model, directory.path());
      const auto checkpoint = Checkpoint::open(directory.path());
      const auto written = make_tensors(model);
      CHECK(checkpoint.tensors().size() == written.size());
      for (const RawTensor& raw : written) {
        const Tensor& tensor = checkpoint.tensor(raw.name);
        CHECK(tensor.shape == raw.shape);
        CHECK(std::equal(tensor.bytes.begin(), tensor.bytes.end(), raw.bytes.begin(), raw.bytes.end()));
        CHECK(reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % 2 == (odd ? 1 : 0));
      }
    }
}

TEST_CASE("three spellings of names give the same tensors, and vision and prediction tensors are left out") {
  std::vector<std::string> names;
  for (const NameStyle style : {NameStyle::mlx, NameStyle::hugging_face, NameStyle::text_only}) {
    const TemporaryDirectory directory;
    TinyModel model = two_layers(3);
    model.names = style;
    model.extra_tensors = true;
    write_checkpoint(model, directory.path());
    const auto checkpoint = Checkpoint::open(directory.path());
    std::vector<std::string> these;
    for (const auto& [tensor, unused] : checkpoint.tensors()) these.push_back(tensor);
    if (names.empty()) names = these;
    CHECK(these == names);
    CHECK(checkpoint.mapped_bytes() > checkpoint.tensor_bytes());
  }
  CHECK(std::count(names.begin(), names.end(), "language_model.lm_head.weight") == 1);
  CHECK(std::none_of(names.begin(), names.end(), [](const std::string& name) {
    return name.find("vision") != std::string::npos || name.find("visual") != std::string::npos ||
           name.find("mtp") != std::string::npos;
  }));
}

TEST_CASE("a missing shard is named, with an index and without") {
  for (const bool index : {true, false}) {
    const TemporaryDirectory directory;
    write_checkpoint(two_layers(3), directory.path());
    fs::remove(directory / second_shard);
    if (!index) fs::remove(directory / index_file);
    const std::string expected = std::string(second_shard) +
                                 ": is not there, but other parts of the checkpoint are: "
                                 "the download is incomplete";
    CHECK(contains(refusal(directory.path()), expected));
    fs::create_symlink("../../blobs/never-fetched",
                       directory / second_shard);  // as an interrupted hub download leaves it
    CHECK(contains(refusal(directory.path()), expected));
  }
  const TemporaryDirectory none;
  write_checkpoint(two_layers(3), none.path());
  for (const char* shard : {"model-00001-of-00003.safetensors", second_shard, "model-00003-of-00003.safetensors"})
    fs::remove(none / shard);
  CHECK(contains(refusal(none.path()), "model-00001-of-00003.safetensors: model.safetensors.index.json names it, but"));
}

TEST_CASE("a whole model opens whatever its index says: none, of other shards, of fewer shards, of other tensors") {
  const auto opens = [](const std::string& index, int shards) {
    const TemporaryDirectory directory;
    write_checkpoint(two_layers(shards), directory.path());
    fs::remove(directory / index_file);
    if (!index.empty()) write_file(directory / index_file, R"({"weight_map":)" + index + "}");
    return Checkpoint::open(directory.path()).tensors().size() == make_tensors(two_layers(shards)).size();
  };
  for (const int shards : {1, 3}) {
    CHECK(opens("", shards));
    CHECK(opens(R"({"language_model.model.norm.weight":"model-00001-of-00007.safetensors"})", shards));
    CHECK(opens(R"({"t":"model-00001-of-00003.safetensors","u":"model-00002-of-00003.safetensors"})", shards));
    CHECK(opens(R"({"t":"weights.safetensors"})", shards));
  }
}

TEST_CASE("a truncated shard is named with the tensor that is cut") {
  const TemporaryDirectory directory;
  write_checkpoint(two_layers(3), directory.path());
  const auto size = fs::file_size(directory / second_shard);
  fs::resize_file(directory / second_shard, size - 1);
  const auto message = refusal(directory.path());
  CHECK(contains(message, std::string(second_shard) + ": tensor language_model."));
  CHECK(contains(message, " ends at byte " + std::to_string(size) + " but the file has " + std::to_string(size - 1) +
                              ": the download is incomplete"));
  fs::resize_file(directory / second_shard, 5);
  CHECK(contains(refusal(directory.path()), "has 5 bytes"));
  fs::resize_file(directory / second_shard, 0);
  CHECK(contains(refusal(directory.path()), "has 0 bytes"));
}

TEST_CASE("where a tensor stands in two shards, the index says which counts") {
  const TemporaryDirectory directory;
  write_checkpoint(two_layers(3), directory.path());
  auto tensors = make_tensors(two_layers(3));
  RawTensor other = tensors.front();
  other.bytes.assign(other.bytes.size(), std::byte{1});
  write_safetensors(directory / "model-old.safetensors", std::span(&other, 1));
  const auto checkpoint = Checkpoint::open(directory.path());
  const Tensor& tensor = checkpoint.tensor(other.name);
  CHECK(std::equal(tensor.bytes.begin(), tensor.bytes.end(), tensors.front().bytes.begin()));
  fs::remove(directory / index_file);
  CHECK(contains(refusal(directory.path()), "stands in the checkpoint twice"));
}

TEST_CASE("a tensor that stands in two shards, or under two spellings, is refused") {
  const TemporaryDirectory directory;
  TinyModel model = two_layers(3);
  write_file(directory / "config.json", config_json(model));
  auto tensors = make_tensors(model);
  tensors.push_back(tensors.front());
  write_shards(directory.path(), tensors, 3);
  fs::remove(directory / index_file);
  CHECK(contains(refusal(directory.path()), "embed_tokens.weight stands in the checkpoint twice"));
  tensors.back().name = "model.embed_tokens.weight";
  write_shards(directory.path(), tensors, 3);
  CHECK(contains(refusal(directory.path()), "tensor model.embed_tokens.weight stands in the checkpoint twice"));
}

TEST_CASE("an index cannot name files outside its directory") {
  const TemporaryDirectory directory;
  write_checkpoint(two_layers(3), directory.path());
  for (const char* shard :
       {"\"../secret.safetensors\"", "\"/etc/passwd\"", "\"..\"", "\"a/b\"", "\"\"", "3", "\"a\\u0000b\""}) {
    write_file(directory / index_file, std::string(R"({"weight_map":{"t":)") + shard + "}}");
    CHECK(contains(refusal(directory.path()), "expected a file name"));
  }
}

TEST_CASE("a broken index is named") {
  const TemporaryDirectory directory;
  write_checkpoint(two_layers(3), directory.path());
  write_file(directory / index_file, "{\"weight_map\": {");
  CHECK(contains(refusal(directory.path()), std::string(index_file) + ": is not valid JSON"));
  write_file(directory / index_file, "{\"weight_map\": {}}");
  CHECK(contains(refusal(directory.path()), "has no weight_map"));
}

TEST_CASE("a directory that is no checkpoint says what is missing") {
  const TemporaryDirectory directory;
  CHECK(contains(refusal(directory.path()), "has no config.json"));
  write_file(directory / "config.json", "{}");
  CHECK(contains(refusal(directory.path()), "has no model.safetensors and no other model*.safetensors"));
  CHECK(contains(refusal(directory / "config.json"), "is not a directory"));
  CHECK(contains(refusal(directory / "nowhere"), "is not a directory"));
  const auto checkpoint = Checkpoint::open_without_weights(directory.path());
  CHECK(checkpoint.text("config.json") == "{}");
  CHECK(checkpoint.tensors().empty());
  CHECK(checkpoint.mapped_bytes() == 0);
}

TEST_CASE("canonical names") {
  CHECK(canonical_name("language_model.model.norm.weight") == "language_model.model.norm.weight");
  CHECK(canonical_name("model.language_model.norm.weight") == "language_model.model.norm.weight");
  CHECK(canonical_name("model.norm.weight") == "language_model.model.norm.weight");
  CHECK(canonical_name("lm_head.scales") == "language_model.lm_head.scales");
  CHECK(canonical_name("lm_head") == "language_model.lm_head");
  CHECK(canonical_name("lm_header") == "lm_header");
  CHECK(!canonical_name("vision_tower.blocks.0.norm1.weight"));
  CHECK(!canonical_name("model.visual.merger.norm.weight"));
  CHECK(!canonical_name("mtp.norm.weight"));
  CHECK(!canonical_name("model.mtp.layers.0.input_layernorm.weight"));
  CHECK(!canonical_name("language_model.model.layers.3.self_attn.rotary_emb.inv_freq"));
  CHECK(canonical_name("model.layers.0.vision_towers.weight"));
  CHECK(canonical_name("model.layers.0.smtp.weight"));
}
