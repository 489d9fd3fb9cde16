// What a long prompt takes of MLX's memory, against what the plan counted.
#include <doctest/doctest.h>
#include <mlx/memory.h>

#include <string>

#include "cache/accounting.h"
#include "mlx/support.h"
#include "runtime/mlx/device.h"
#include "support/checkpoint_writer.h"
#include "support/temporary_directory.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

namespace mx = ::mlx::core;

/// Taken over planned, of a prompt.
double share(const Engine& engine, const char* format, int tokens, int chunk) {
  std::vector<int> ids(static_cast<std::size_t>(tokens));
  for (int i = 0; i < tokens; ++i) ids[static_cast<std::size_t>(i)] = (i * 7919 + 13) % engine.config().vocab_size;
  mx::clear_cache();
  mx::reset_peak_memory();
  const std::uint64_t before = mx::get_active_memory();
  const auto session = engine.open(KvFormat::parse(format), options_of(tokens, chunk));
  session->prefill(ids);
  const CacheBytes bytes = session->cache().bytes;
  const std::uint64_t planned =
      bytes.kv_allocated + bytes.state() +
      tqkv::mlx::pass_bytes(engine.config(), {chunk, tokens, engine.config().head_dim, false});
  const std::uint64_t taken = mx::get_peak_memory() - before;
  MESSAGE(tokens << " tokens: planned " << planned / 1000 << " kB, of which " << bytes.kv_allocated / 1000
                 << " are keys and values; at most " << taken / 1000 << " taken");
  return static_cast<double>(taken) / static_cast<double>(planned);
}

}  // namespace

TEST_CASE("a prompt of 8,192 tokens takes the memory that was planned") {
  TinyModel model = two_layers();
  model.heads = 8;
  model.experts = 0;
  model.context = 8192;
  const TemporaryDirectory folder;
  write_checkpoint(model, folder.path());
  const auto engine = Engine::load(Checkpoint::open(folder.path()), {Device::parse("mlx"), Precision::f32, {}});
  const double taken = share(*engine, "turboquant", 8192, 2048);
  CHECK(taken < 1.1);
  CHECK(taken > 0.9);
}

TEST_CASE("a prompt of the bundled model takes the memory that was planned, or less") {
  const double taken = share(on_mlx(), "turboquant", 300, 300);
  CHECK(taken < 1.1);
  CHECK(taken > 0.5);
}
