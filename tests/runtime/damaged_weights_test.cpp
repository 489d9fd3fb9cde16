// Weights with numbers that no model has: an error that names the tensor, never an answer.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "runtime/cpu/engine.h"
#include "support/checkpoint_writer.h"
#include "support/failure.h"
#include "support/reference.h"
#include "support/temporary_directory.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

constexpr std::uint16_t nan = 0x7fc0, infinity = 0x7f80, denormal = 0x0010, huge = 0x7e00;

/// Element `index` of the tensor whose name ends in `end`; 16 bits.
struct Damage {
  std::string end;
  std::size_t index = 0;
  std::uint16_t bits = nan;
};

void write_damaged(const TinyModel& model, const Damage& damage, const std::filesystem::path& folder,
                   std::vector<RawTensor> tensors) {
  bool found = false;
  for (RawTensor& tensor : tensors) {
    if (tensor.name.size() < damage.end.size() ||
        tensor.name.compare(tensor.name.size() - damage.end.size(), damage.end.size(), damage.end) != 0)
      continue;
    found = true;
    const std::size_t size = tensor.dtype == "F32" ? 4 : 2;
    std::memcpy(tensor.bytes.data() + damage.index * size + size - 2, &damage.bits, 2);
  }
  REQUIRE(found);
  write_file(folder / "config.json", config_json(model));
  write_shards(folder, tensors, 1);
}

std::string refusal(const Damage& damage, TinyModel model = two_layers()) {
  const TemporaryDirectory folder;
  write_damaged(model, damage, folder.path(), make_tensors(model));
  return failure(ErrorKind::checkpoint, [&] { Engine::load(Checkpoint::open(folder.path())); });
}

/// A model whose scales are too many to be read when it is loaded.
TinyModel large() {
  TinyModel model = two_layers();
  model.bits = 0;
  model.vocab = 17000;
  model.hidden = 512;
  return model;
}

}  // namespace

TEST_CASE("a NaN, an infinity, a huge number or a denormal scale is named with its tensor when a model is loaded") {
  const std::string model = "language_model.model.";
  const std::pair<Damage, std::string> cases[] = {
      {{model + "norm.weight", 5}, model + "norm.weight has a NaN at element 5"},
      {{"layers.1.self_attn.q_norm.weight", 3, infinity}, "q_norm.weight has an infinity at element 3"},
      {{"layers.0.linear_attn.A_log", 1}, "layers.0.linear_attn.A_log has a NaN at element 1"},
      {{"layers.0.linear_attn.conv1d.weight", 9, infinity}, "conv1d.weight has an infinity at element 9"},
      {{"layers.0.linear_attn.dt_bias", 0}, "dt_bias has a NaN at element 0"},
      {{"layers.1.self_attn.k_proj.scales", 7}, "layers.1.self_attn.k_proj.scales has a NaN at element 7"},
      {{"layers.1.self_attn.k_proj.scales", 7, denormal}, "k_proj.scales has the denormal 1.47e-39 at element 7"},
      {{"layers.1.self_attn.v_proj.biases", 2, infinity}, "v_proj.biases has an infinity at element 2"},
      {{"layers.0.mlp.switch_mlp.down_proj.scales", 100, huge}, "down_proj.scales has 4.25e+37 at element 100"},
      {{"layers.0.mlp.gate.scales", 1}, "mlp.gate.scales has a NaN at element 1"},
      {{"embed_tokens.scales", 11}, "embed_tokens.scales has a NaN at element 11"},
      {{"lm_head.scales", 2 * 300, infinity}, "language_model.lm_head.scales has an infinity at element 600"}};
  for (const auto& one : cases) {
    const Damage& damage = one.first;
    const std::string& expected = one.second;
    CAPTURE(expected);
    const auto message = refusal(damage);
    CHECK(contains(message, ": tensor "));
    CHECK(contains(message, expected + ", expected finite numbers"));
  }
  TinyModel plain = two_layers();
  plain.bits = 0;
  CHECK(contains(refusal({"layers.1.self_attn.o_proj.weight", 70}, plain), "o_proj.weight has a NaN at element 70"));
  plain.plain_dtype = "F16";
  CHECK(contains(refusal({"lm_head.weight", 70, 0x7c00}, plain), "lm_head.weight has an infinity at element 70"));
  plain.plain_dtype = "F32";
  CHECK(contains(refusal({"lm_head.weight", 70}, plain), "lm_head.weight has a NaN at element 70"));
}

TEST_CASE("a scale of 0 and a denormal bias are numbers that a model may have") {
  for (const Damage& damage : {Damage{"k_proj.scales", 3, 0}, Damage{"k_proj.biases", 3, denormal}}) {
    const TemporaryDirectory folder;
    write_damaged(two_layers(), damage, folder.path(), make_tensors(two_layers()));
    const auto engine = Engine::load(Checkpoint::open(folder.path()));
    CHECK(engine->open(KvFormat::of(Backend::baseline))->prefill(std::vector<int>{1, 2, 3}).size() == 320);
  }
}

TEST_CASE("what a large model has wrong is named where it is read first, and every time after that") {
  const std::pair<Damage, std::string> cases[] = {
      {{"layers.1.self_attn.k_proj.weight", 70}, "layers.1.self_attn.k_proj.weight has a NaN at element 70"},
      {{"layers.0.mlp.switch_mlp.up_proj.weight", 3}, "up_proj.weight has a NaN at element 3"},
      {{"lm_head.weight", 16999 * 512, infinity}, "lm_head.weight has an infinity at element 8703488"},
      {{"embed_tokens.weight", 7 * 512 + 1}, "embed_tokens.weight has a NaN at element 3585"}};
  const auto tensors = make_tensors(large());
  for (const auto& one : cases) {
    const Damage& damage = one.first;
    const std::string& expected = one.second;
    CAPTURE(expected);
    const TemporaryDirectory folder;
    write_damaged(large(), damage, folder.path(), tensors);
    const auto engine = Engine::load(Checkpoint::open(folder.path()));
    const auto session = engine->open(KvFormat::of(Backend::baseline));
    std::vector<int> ids(64);
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int>(i);
    for (int again = 0; again < 2; ++again)
      CHECK(contains(failure(ErrorKind::checkpoint, [&] { session->prefill(ids); }), expected));
    const std::vector<int> others = {500};
    CHECK(contains(failure(ErrorKind::checkpoint, [&] { session->prefill(others); }), expected));
  }
}

TEST_CASE("logits that overflow are an error, not an answer") {
  TinyModel model = two_layers();
  model.bits = 0;
  model.plain_dtype = "F32";
  auto tensors = make_tensors(model);
  const TemporaryDirectory folder;
  const float large_number = 1e28f;
  for (RawTensor& tensor : tensors)
    if (tensor.name == "language_model.lm_head.weight" || tensor.name == "language_model.model.norm.weight")
      for (std::size_t i = 0; i < tensor.bytes.size(); i += 4) std::memcpy(tensor.bytes.data() + i, &large_number, 4);
  write_file(folder / "config.json", config_json(model));
  write_shards(folder.path(), tensors, 1);
  const auto engine = Engine::load(Checkpoint::open(folder.path()));
  const auto session = engine->open(KvFormat::of(Backend::baseline));
  CHECK(contains(failure(ErrorKind::checkpoint,
                         [&] {
                           session->prefill(std::vector<int>{1, 2});
                         }),
                 "the model computes logits that are not finite"));
}
