// Contexts beyond the native one: YaRN in the forward pass, on every instruction set and in both precisions.
#include <doctest/doctest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "runtime/cpu/kernels.h"
#include "support/checkpoint_writer.h"
#include "support/failure.h"
#include "support/reference.h"
#include "support/sanitized.h"
#include "support/temporary_directory.h"
#include "tqkv/memory_plan.h"
#include "tqkv/saved_session.h"

using namespace tqkv;
using namespace tqkv::test;
using nlohmann::json;

namespace {

void set_rope(const std::filesystem::path& folder, const json& more) {
  json config = json::parse(read_text(folder / "config.json"));
  config["text_config"]["rope_parameters"].update(more);
  write_file(folder / "config.json", config.dump());
}

const json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}};

TinyModel short_context() {
  TinyModel model = two_layers();
  model.context = 64;
  return model;
}

std::vector<int> ids(int count) {
  std::vector<int> out;
  for (int i = 0; i < count; ++i) out.push_back((i * 7919 + 13) % 320);
  return out;
}

std::vector<float> logits(const std::filesystem::path& folder, Precision precision, const std::string& isa, int count) {
  DeviceOptions device;
  device.precision = precision;
  device.device = cpu_device(isa, 2);
  const auto engine = Engine::load(Checkpoint::open(folder), device);
  return last_logits(*engine, KvFormat::of(Backend::baseline), ids(count), 20);
}

}  // namespace

TEST_CASE(
    "with YaRN a context four times the native one runs, the same on every instruction set and in both precisions") {
  const TemporaryDirectory folder;
  write_checkpoint(short_context(), folder.path());
  const auto native = logits(folder.path(), Precision::f32, "portable", 60);
  CHECK(contains(failure(ErrorKind::usage, [&] { logits(folder.path(), Precision::f32, "portable", 200); }), "64"));
  set_rope(folder.path(), yarn);
  CHECK(compare(native, logits(folder.path(), Precision::f32, "portable", 60), 320).mean_kl > 1e-7);
  const auto expected = logits(folder.path(), Precision::f32, "portable", 200);
  for (const std::string_view isa : cpu::available_isas())
    for (const Precision precision : {Precision::f32, Precision::fast}) {
      CAPTURE(isa);
      const auto own = logits(folder.path(), precision, std::string(isa), 200);
      CHECK(compare(expected, own, 320).max_kl < (precision == Precision::f32 ? 1e-8 : 1e-3));
    }
}

TEST_CASE("the attention factor of YaRN scales queries and keys on their rotary channels") {
  TinyModel model = short_context();
  model.bits = 0;
  model.plain_dtype = "F32";
  const TemporaryDirectory scaled, by_hand;
  write_checkpoint(model, scaled.path());
  set_rope(scaled.path(), {{"rope_type", "yarn"}, {"factor", 1.0}, {"attention_factor", 1.5}});
  auto tensors = make_tensors(model);
  const auto rotary = static_cast<std::size_t>(model.head_dim * model.rotary);
  for (RawTensor& tensor : tensors)
    if (tensor.name.find("q_norm") != std::string::npos || tensor.name.find("k_norm") != std::string::npos)
      for (std::size_t i = 0; i < rotary; ++i) {
        float value = 0;
        std::memcpy(&value, tensor.bytes.data() + 4 * i, 4);
        value *= 1.5f;
        std::memcpy(tensor.bytes.data() + 4 * i, &value, 4);
      }
  write_file(by_hand / "config.json", config_json(model));
  write_shards(by_hand.path(), tensors, 1);
  const auto a = logits(scaled.path(), Precision::f32, "", 50), b = logits(by_hand.path(), Precision::f32, "", 50);
  CHECK(compare(b, a, 320).max_kl < 1e-9);
  const TemporaryDirectory plain;
  write_checkpoint(model, plain.path());
  CHECK(compare(b, logits(plain.path(), Precision::f32, "", 50), 320).mean_kl > 1e-7);
}

TEST_CASE("the memory plan and its refusals count the scaled context") {
  const TemporaryDirectory folder;
  write_checkpoint(short_context(), folder.path());
  set_rope(folder.path(), yarn);
  const auto config = ModelConfig::parse(read_text(folder / "config.json"), "config.json");
  PlanRequest request;
  CHECK(plan_memory(config, 1000, KvFormat::of(Backend::baseline), request).native_context == 256);
  CHECK(plan_memory(config, 1000, KvFormat::of(Backend::baseline), request).context == 256);
  request.session.context = 257;
  CHECK(
      contains(failure(ErrorKind::usage, [&] { plan_memory(config, 1000, KvFormat::of(Backend::baseline), request); }),
               "257 tokens was asked for, but the model was made for at most 256"));
}

TEST_CASE("a session that was saved with other rotary angles is refused") {
  const TemporaryDirectory folder;
  write_checkpoint(short_context(), folder.path());
  {
    const auto engine = Engine::load(Checkpoint::open(folder.path()));
    const auto session = engine->open(KvFormat::of(Backend::baseline));
    session->prefill(ids(20));
    session->save(folder / "s", {NextText::conversation, {7}});
  }
  set_rope(folder.path(), yarn);
  const auto engine = Engine::load(Checkpoint::open(folder.path()));
  const auto saved = SavedSession::open(folder / "s");
  CHECK(contains(failure(ErrorKind::session, [&] { engine->restore(saved, {}); }), "is a session of another model"));
}
