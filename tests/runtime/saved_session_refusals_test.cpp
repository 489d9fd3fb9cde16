// Session files that nobody may go on with: another model, damaged, newer, or made to do harm.
#include <doctest/doctest.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "cache/session/reader.h"
#include "support/checkpoint_writer.h"
#include "support/failure.h"
#include "support/sanitized.h"
#include "support/session_bytes.h"
#include "support/temporary_directory.h"
#include "tqkv/engine.h"
#include "tqkv/error.h"
#include "tqkv/saved_session.h"

namespace {

using namespace tqkv;
using namespace tqkv::test;
using Json = nlohmann::ordered_json;

std::unique_ptr<Engine> load(const TinyModel& model, Precision precision = Precision::fast) {
  const TemporaryDirectory folder;
  DeviceOptions device;
  device.precision = precision;
  device.device = Device::parse("cpu:threads=2");
  return Engine::load(Checkpoint::open(write_checkpoint(model, folder.path())), device);
}

const Engine& engine() {
  static const auto loaded = load(two_layers());
  return *loaded;
}

std::string saved_by(const Engine& by, const std::string& format = "turboquant:split=1:bits=2:window=8:sink=3",
                     std::size_t tokens = 40) {
  const TemporaryDirectory folder;
  const auto session = by.open(KvFormat::parse(format));
  std::vector<int> ids(tokens);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int>(i * 3);
  session->prefill(ids);
  session->save(folder / "s", {NextText::conversation, {7}});
  return read_text(folder / "s");
}

const std::string& good() {
  static const std::string file = saved_by(engine());
  return file;
}

std::string fingerprint_in(const std::string& file) {
  return cache::SessionReader(bytes_of(file), "file").identity().model;
}

/// What restoring `file` says, or "" when it goes on; every failure must be an Error(session) on one line.
std::string refusal(const std::string& file, const Engine& by = engine()) {
  const TemporaryDirectory folder;
  const std::string path = folder.write("s", file);
  try {
    by.restore(SavedSession::open(path))->decode(1);
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(error.kind() == ErrorKind::session);
    CHECK(message.rfind("[session] " + path + ": ", 0) == 0);
    CHECK(message.find('\n') == std::string::npos);
    return message;
  }
  return "";
}

/// The same without an engine, for many files.
bool refused(const std::string& file) {
  static const std::string fingerprint = fingerprint_in(good());
  try {
    const cache::SessionReader reader(bytes_of(file), "file");
    const auto layout = reader.layout(engine().config(), fingerprint);
    for (std::size_t i = 0; i < layout.size(); ++i) reader.read(engine().config(), layout, i);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::session);
    return true;
  }
  return false;
}

std::string f32(float value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

TEST_CASE("a file that was cut short anywhere is refused") {
  REQUIRE_FALSE(refused(good()));
  for (std::size_t size = 0; size < good().size(); size += size < 6000 ? 7 : 997) {
    CAPTURE(size);
    CHECK(refused(good().substr(0, size)));
  }
  CHECK(refused(good().substr(0, good().size() - 1)));
  CHECK(contains(refusal(good().substr(0, good().size() - 1)), "was cut short"));
}

TEST_CASE("a file with any bit altered is refused") {
  std::string file = good();
  for (std::size_t at = 0; at < file.size(); at += sanitized ? 61 : 7) {
    CAPTURE(at);
    const char before = file[at];
    file[at] = static_cast<char>(before ^ (1 << at % 8));
    CHECK(refused(file));
    file[at] = before;
  }
  file.back() = static_cast<char>(file.back() ^ 1);
  CHECK(contains(refusal(file), "was altered, it does not have the checksum"));
}

TEST_CASE("a session of another model is refused: another config, other weights") {
  CHECK(refusal(good()).empty());
  TinyModel weights = two_layers();
  weights.seed = 2;
  CHECK(contains(refusal(good(), *load(weights)), "another model"));
  TinyModel config = two_layers();
  config.context = 8192;
  CHECK(contains(refusal(good(), *load(config)), "another model"));
  CHECK(refusal(good(), *load(two_layers(2))).empty());  // the same in two shards
}

TEST_CASE("a fingerprint sees what config.json says and what small tensors hold, not how they are written") {
  const TemporaryDirectory folder;
  const auto fingerprint = [&] { return model_fingerprint(Checkpoint::open(folder.path())); };
  write_checkpoint(two_layers(), folder.path());
  const std::string before = fingerprint();
  const auto config = nlohmann::json::parse(read_text(folder / "config.json"));
  folder.write("config.json", config.dump(4) + "\n");
  CHECK(fingerprint() == before);
  auto tensors = make_tensors(two_layers());
  for (RawTensor& tensor : tensors) {
    if (tensor.bytes.size() > 4096) continue;
    CAPTURE(tensor.name);
    tensor.bytes.back() ^= std::byte{1};
    write_safetensors(folder / "model.safetensors", tensors);
    CHECK(fingerprint() != before);
    tensor.bytes.back() ^= std::byte{1};
  }
  write_safetensors(folder / "model.safetensors", tensors);
  CHECK(fingerprint() == before);
}

TEST_CASE("a session of the other precision is refused") {
  const auto exact = load(two_layers(), Precision::f32);
  CHECK(contains(refusal(good(), *exact), "fast precision"));
  CHECK(contains(refusal(saved_by(*exact)), "f32 precision"));
}

TEST_CASE("a session of version 1, which has an instruction set instead of a device, is resumed") {
  const auto older = with_header(good(), [](Json& header) {
    Json& metadata = header["__metadata__"];
    metadata["version"] = "1";
    metadata.erase("device");
    metadata["isa"] = "portable";
  });
  CHECK(refusal(older).empty());
}

TEST_CASE("a newer version, another kind of file and a header that says nothing are refused by name") {
  const auto metadata = [](const std::string& key, const std::string& value) {
    return refusal(with_header(good(), [&](Json& header) {
      if (value.empty())
        header["__metadata__"].erase(key);
      else
        header["__metadata__"][key] = value;
    }));
  };
  CHECK(metadata("next", "raw").empty());
  CHECK(contains(metadata("version", "3"), "version 3, and this program reads up to 2"));
  for (const std::string version : {"0", "-1", "one", "99999999999999999999"})
    CHECK(contains(metadata("version", version), "expected a number from 1 on"));
  CHECK(contains(metadata("format", "pt"), "no saved session"));
  for (const std::string key : {"version", "model", "kv_format", "precision", "state", "device", "next"})
    CHECK(contains(metadata(key, ""), "does not say its " + key));
  CHECK(contains(metadata("kv_format", "magic"), "does not know"));
  CHECK(contains(metadata("kv_format", "turboquant"), "no canonical string"));
  CHECK(contains(metadata("kv_format", "baseline:bits=16"), "tensors"));
  CHECK(contains(metadata("kv_format", "turboquant:k=4:v=4:scalar=corrected:seed=0:table=2"), "does not know"));
  CHECK(contains(metadata("precision", "f16"), "f16"));
  CHECK(contains(metadata("state", "bf16"), "has not the type"));
  CHECK(contains(metadata("device", "avx<\n>"), "which is none"));
  CHECK(contains(metadata("version", "1"), "does not say its isa"));
  CHECK(contains(metadata("next", "soon"), "soon"));
  CHECK(contains(metadata("model", "0123"), "32 hexadecimal digits"));
  CHECK(contains(refusal(with_header(good(), [](Json& header) { header.erase("__metadata__"); })), "no saved session"));
  CHECK(contains(refusal(with_header(good(), [](Json& header) { header["__metadata__"]["device"] = 5; })),
                 "not a string"));
}

TEST_CASE("shapes and offsets that are not those of the session are refused, however right the checksums") {
  const auto changed = [](const std::string& tensor, const std::function<void(Json&)>& edit) {
    return refusal(with_header(good(), [&](Json& header) { edit(header[tensor]); }));
  };
  const auto moved = [](Json& entry) {
    for (Json& offset : entry["data_offsets"]) offset = offset.get<std::uint64_t>() + 4;
  };
  CHECK(contains(changed("tokens", [](Json& entry) { entry["dtype"] = "U32"; }), "tokens"));
  CHECK(contains(changed("tokens", [](Json& entry) { entry["shape"] = {20, 2}; }), "tokens"));
  CHECK(contains(changed("tokens", [](Json& entry) { entry["shape"] = {1ull << 62}; }), "larger than any file"));
  CHECK(contains(changed("tokens", [](Json& entry) { entry["shape"] = {-1}; }), "not a size"));
  CHECK(contains(changed("tokens", moved), "overlap"));
  CHECK(contains(changed("logits", [](Json& entry) { entry["shape"] = {1, 320}; }), "logits"));
  CHECK(contains(changed("layers.0.recurrent", [](Json& entry) { entry["dtype"] = "I32"; }), "layers.0.recurrent"));
  CHECK(contains(changed("layers.1.v.window", [](Json& entry) { entry["shape"] = {4, 4, 64}; }), "layers.1.v.window"));
  CHECK(contains(changed("layers.1.k.main",
                         [](Json& entry) {
                           entry["data_offsets"] = {1ull << 63, 1ull << 63};
                         }),
                 "the file has"));
  CHECK(contains(refusal(with_header(good(), [](Json& header) { header.erase("layers.1.k.sink"); })), "tensor"));
  CHECK(contains(refusal(with_header(good(), [](Json& header) { header.erase("checksums"); })), "checksum"));
  CHECK(contains(refusal(with_header(good(), [](Json& header) { header.erase("pending"); })), "checksum"));
  CHECK(contains(refusal(with_header(good(),
                                     [](Json& header) {
                                       header["layers.9.k.main"] = header["layers.1.k.main"];
                                       header.erase("layers.1.k.main");
                                     })),
                 "layers.1.k.main is missing"));
  CHECK(contains(refusal(good() + "more"), "4 bytes after its last tensor"));
}

TEST_CASE("more tokens than the model takes are refused before anything is made for them") {
  const std::string file = with_header(saved_by(engine()), [](Json& header) {
    header["tokens"]["shape"] = {0};
    header["tokens"]["data_offsets"][1] = header["tokens"]["data_offsets"][0];
  });
  CHECK_FALSE(refusal(file).empty());
  TinyModel small = two_layers();
  small.context = 32;
  const auto other = load(small);
  const std::string fingerprint = fingerprint_in(saved_by(*other, "baseline", 4));
  CHECK(contains(
      refusal(with_header(good(), [&](Json& header) { header["__metadata__"]["model"] = fingerprint; }), *other),
      "contains 40 tokens and 1 more, but the model accepts at most 32"));
}

TEST_CASE("numbers that no session holds are refused, however right the checksums") {
  const auto with = [](const std::string& tensor, std::size_t at, const std::string& bytes) {
    return refusal(with_bytes(good(), tensor, at, bytes));
  };
  const std::string nan = f32(std::numeric_limits<float>::quiet_NaN()),
                    infinity = f32(-std::numeric_limits<float>::infinity()), minus_one = "\xff\xff\xff\xff";
  CHECK(with("tokens", 8, std::string("\x3f\x01\0\0", 4)).empty());
  CHECK(contains(with("tokens", 8, std::string("\x40\x01\0\0", 4)), "id 320 of token 2 is not between 0 and 319"));
  CHECK(contains(with("tokens", 0, minus_one), "id -1 of token 0"));
  CHECK(contains(with("pending", 0, minus_one), "id -1 of token 0"));
  CHECK(contains(with("logits", 12, nan), "not finite"));
  CHECK(contains(with("layers.0.recurrent", 400, infinity), "not finite"));
  CHECK(contains(with("layers.0.convolution", 6, "\x80\x7f"), "not finite"));
  CHECK(contains(with("layers.1.k.window", 2, "\xc0\xff"), "not finite"));
  CHECK(contains(with("layers.1.v.squares", 8, std::string("\0\0\0\0\0\0\xf0\xbf", 8)), "sum of squares"));
  CHECK(contains(with("layers.1.v.squares", 8, std::string("\0\0\0\0\0\0\xf8\x7f", 8)), "sum of squares"));
  // The scalar of a vector of 64 channels with 3 bits each stands behind 24 bytes of codes.
  CHECK(contains(with("layers.1.k.first", 24, std::string("\0\x7e", 2)), "not finite"));
  CHECK(with("layers.1.k.first", 22, "\xff\xff").empty());  // codes may be any bits
}

TEST_CASE("scalars of every codec are looked at where they stand") {
  // Of head_dim 64: where the last scalar of the first key is.
  struct Case {
    std::string format;
    std::size_t at;
    std::string bits;
  };
  for (const Case& one : std::vector<Case>{{"turboquant", 32, std::string("\0\x7c", 2)},
                                           {"trellis:bits=3", 24, "\1\xfc"},
                                           {"mlx_quant", 34, "\x80\x7f"},
                                           {"rotated_quant:bits=8", 64, "\x80\xff"},
                                           {"turboquant_prod", 34, std::string("\0\x7c", 2)},
                                           {"qjl:rows=64", 8, std::string("\0\x7c", 2)},
                                           {"polarquant", 29, std::string("\0\x7c", 2)},
                                           {"sketch", 32, "\x80\x7f"},
                                           {"sketch", 36, std::string("\0\x7c", 2)},
                                           {"baseline", 126, "\x80\x7f"}}) {
    CAPTURE(one.format);
    const std::string file = saved_by(engine(), one.format);
    CHECK(refusal(file).empty());
    CHECK(contains(refusal(with_bytes(file, "layers.1.k.main", one.at, one.bits)), "not finite"));
  }
}

TEST_CASE("what is no session file at all is refused with its name") {
  CHECK(contains(refusal(""), "cut short"));
  CHECK(contains(refusal("A letter, not a session."), "no safetensors file"));
  CHECK(contains(refusal(std::string(8, '\0')), "JSON"));
  const TemporaryDirectory folder;
  write_checkpoint(two_layers(), folder.path());
  CHECK(contains(refusal(read_text(folder / "model.safetensors")), "no saved session"));
  std::string long_header(std::size_t{3} << 20, ' ');
  long_header[2] = '\x20';
  CHECK_FALSE(refusal(long_header).empty());
  CHECK_THROWS_WITH_AS(SavedSession::open(folder / "nothing"), doctest::Contains("cannot be opened"), Error);
  CHECK_THROWS_AS(SavedSession::open(folder.path()), Error);
}

TEST_CASE("a save that fails leaves the older file, and no other") {
  const TemporaryDirectory folder;
  const auto session = engine().open(KvFormat::of(Backend::turboquant));
  session->save(folder / "s");
  const std::string before = read_text(folder / "s");
  CHECK_THROWS_AS(session->save(folder.path()), Error);
  CHECK_THROWS_AS(session->save("/dev/full"), Error);
  CHECK(read_text(folder / "s") == before);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}
