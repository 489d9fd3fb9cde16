// session-restore [TOKENS [FORMAT…]]: how long a saved session takes to restore, on the cache and state of the 35B
// model (40 layers, 10 of them with 2 KV heads of 256 channels) over weights that are small. The file lies in the page
// cache.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "cache/session/layout.h"
#include "cache/session/writer.h"
#include "runtime/devices.h"
#include "support/checkpoint_writer.h"
#include "support/temporary_directory.h"
#include "tqkv/saved_session.h"

namespace {

using namespace tqkv;

constexpr int trials = 5;

test::TinyModel model() {
  test::TinyModel model;
  model.layers = 40;
  model.head_dim = 256;
  model.heads = 4;
  model.linear_key_heads = 16;
  model.linear_value_heads = 32;
  model.linear_key_dim = model.linear_value_dim = 128;
  model.context = 262144;
  model.tokenizer = false;
  return model;
}

/// A session of `tokens` tokens that nobody computed: any codes, numbers that are finite.
void write_session(const std::filesystem::path& path, const Engine& engine, const KvFormat& format, int tokens) {
  const SessionIdentity identity{model_fingerprint(engine.checkpoint()), format, Precision::fast, StateType::f32,
                                 bits_of(engine.device().device)};
  const auto layout =
      cache::session_layout(engine.config(), {format, identity.precision, identity.state, tokens, 0, true});
  cache::SessionWriter writer(path, cache::metadata_of(identity, NextText::raw), layout);
  std::mt19937 random(1);
  for (const cache::SessionTensor& tensor : layout) {
    if (tensor.part == cache::SessionPart::checksums) continue;
    std::vector<std::byte> bytes(tensor.bytes);
    if (tensor.part != cache::SessionPart::tokens)  // clear of an exponent of ones, and of a sign
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random() & 0x3b);
    writer.write(bytes);
  }
  writer.commit();
}

void measure(const Engine& engine, const std::filesystem::path& path, const std::string& text, int tokens) {
  write_session(path, engine, KvFormat::parse(text), tokens);
  std::vector<double> seconds;
  for (int trial = 0; trial < trials; ++trial) {
    const auto start = std::chrono::steady_clock::now();
    const auto session = engine.restore(SavedSession::open(path), {.context = tokens + 256});
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  fmt::print("{:<28} {:>7} tokens {:>8.1f} MB  {:.3f} s ({:.3f} - {:.3f})\n", text, tokens,
             static_cast<double>(std::filesystem::file_size(path)) / 1e6, seconds[trials / 2], seconds.front(),
             seconds.back());
}

}  // namespace

int main(int argc, char** argv) try {
  const int tokens = argc > 1 ? std::atoi(argv[1]) : 32768;
  std::vector<std::string> formats(argv + std::min(argc, 2), argv + argc);
  if (formats.empty()) formats = {"turboquant", "turboquant:bits=2", "mlx_quant", "baseline"};
  const test::TemporaryDirectory folder;
  const auto engine = Engine::load(Checkpoint::open(test::write_checkpoint(model(), folder / "model")));
  fmt::print("{}\n", engine->device().text());
  for (const std::string& format : formats) measure(*engine, folder / "session", format, tokens);
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
