// The engine whose kernels run in the emulator, against the engine of MLX's operations alone.
#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "emulator/emulator.h"
#include "mlx/support.h"
#include "runtime/mlx/engine.h"
#include "support/environment.h"
#include "support/failure.h"
#include "support/temporary_directory.h"
#include "tqkv/error.h"
#include "tqkv/saved_session.h"

using namespace tqkv;
using namespace tqkv::test;
using tqkv::mlx::KernelCall;

namespace {

namespace mx = ::mlx::core;

std::unique_ptr<tqkv::mlx::MlxEngine> engine_with(tqkv::mlx::RunKernel run) {
  return std::make_unique<tqkv::mlx::MlxEngine>(Checkpoint::open(pocket_directory()),
                                                DeviceOptions{Device::parse("mlx"), Precision::f32, {}},
                                                tqkv::mlx::Paths(std::move(run), ""), Precision::f32);
}

/// 298 tokens that the engine for the processor has read.
std::filesystem::path saved(const TemporaryDirectory& folder, const KvFormat& format) {
  const std::vector<int> doc = ids_of("doc");
  const auto session = on_cpu().open(format, options_of(310));
  session->prefill(std::span(doc).first(298));
  session->save(folder / "saved.session");
  return folder / "saved.session";
}

/// Two more, decoded.
std::vector<float> decoded(Session& session) {
  const std::vector<int> doc = ids_of("doc");
  std::vector<float> logits = copy(session.decode(doc[298]));
  const auto more = session.decode(doc[299]);
  logits.insert(logits.end(), more.begin(), more.end());
  return logits;
}

std::vector<float> answer(const Engine& engine, const std::filesystem::path& saved) {
  return decoded(*engine.restore(SavedSession::open(saved), options_of(310)));
}

}  // namespace

TEST_CASE("an engine on the kernels answers as one on MLX's operations, and asks each kernel for its part") {
  const TemporaryDirectory folder;
  const Environment cache("XDG_CACHE_HOME", folder.path().c_str());
  const tqkv::mlx::RunKernel emulated = emulator::emulated({.seed = 3});
  std::map<std::string, int> calls;
  const auto engine = engine_with([&](const KernelCall& call) {
    ++calls[call.name.substr(0, call.name.find('_', 5))];
    return emulated(call);
  });
  const KvFormat format = KvFormat::parse("turboquant:mean=16:window=20:k=5:v=3");
  const std::vector<int> doc = ids_of("doc");
  const auto whole = [&](const Engine& own) {
    const auto session = own.open(format, options_of(310));
    session->prefill(std::span(doc).first(298));
    return decoded(*session);
  };
  const Agreement result = compare(whole(on_mlx()), whole(*engine), 8192);
  CHECK(result.mean_kl < 1e-6);
  MESSAGE("mean KL " << result.mean_kl << ", " << calls["tqkv_attend"] << " and " << calls["tqkv_encode"] << " calls");
  // Two tokens on two layers, with a segment and a tail each: and the test of the kernels before.
  CHECK(calls["tqkv_attend"] >= 2 * 2 * 2);
  CHECK(calls["tqkv_encode"] >= 3 * 2 * 2);
  const DeviceReport report = engine->device();
  CHECK(contains(report.steps,
                 "decode attention, K turboquant 5 bit, scalar corrected, V turboquant 3 bit, scalar "
                 "corrected: own kernel, on packed codes"));
  CHECK(report.warning.empty());
  // The next engine does not test them again.
  const int before = calls["tqkv_attend"];
  const auto next = engine_with([&](const KernelCall& call) {
    ++calls[call.name.substr(0, call.name.find('_', 5))];
    return emulated(call);
  });
  next->open(format, options_of(20));
  CHECK(calls["tqkv_attend"] == before);
}

TEST_CASE("attention of a decoded token reads the cache as it is stored, and nothing else of its size") {
  const TemporaryDirectory folder;
  const Environment cache("XDG_CACHE_HOME", folder.path().c_str());
  const tqkv::mlx::RunKernel emulated = emulator::emulated({.seed = 3});
  std::uint64_t read = 0, written = 0;
  const auto engine = engine_with([&](const KernelCall& call) {
    std::vector<mx::array> made = emulated(call);
    if (call.name.find("attend") == std::string::npos) return made;
    for (const mx::array& input : call.inputs) read += input.nbytes();
    for (const mx::array& output : made) written += output.nbytes();
    return made;
  });
  const auto session =
      engine->restore(SavedSession::open(saved(folder, KvFormat::parse("turboquant"))), options_of(310));
  read = written = 0;
  session->decode(ids_of("doc")[298]);
  const std::uint64_t stored = session->cache().bytes.kv_allocated;
  MESSAGE("a token reads " << read << " bytes of " << stored << " that are stored, and writes " << written);
  CHECK(read >= stored);
  CHECK(read < stored + 70'000);  // the query, its places and means, for a segment and a tail on two layers
}

TEST_CASE("a kernel that is wrong or does not compile is off, and the report says so") {
  const TemporaryDirectory folder;
  const Environment cache("XDG_CACHE_HOME", folder.path().c_str());
  const tqkv::mlx::RunKernel emulated = emulator::emulated({.seed = 3});
  const std::filesystem::path file = saved(folder, KvFormat::parse("turboquant"));
  const std::vector<float> expected = answer(on_mlx(), file);
  for (const std::string kernel : {"tqkv_attend", "tqkv_encode"}) {
    CAPTURE(kernel);
    for (const bool compiles : {true, false}) {
      CAPTURE(compiles);
      const auto engine = engine_with([&](const KernelCall& call) {
        if (call.name.compare(0, kernel.size(), kernel) != 0) return emulated(call);
        if (!compiles) throw std::runtime_error("error: no such builtin");
        std::vector<mx::array> made = emulated(call);
        made[0] = mx::astype(mx::add(made[0], mx::array(1, made[0].dtype())), made[0].dtype());
        return made;
      });
      const Agreement result = compare(expected, answer(*engine, file), 8192);
      CHECK(result.mean_kl < 1e-6);
      const DeviceReport report = engine->device();
      const std::string named = kernel == "tqkv_attend" ? "attention kernel" : "encoding kernel";
      CHECK(contains(report.warning, "the " + named + " of K turboquant 4 bit"));
      CHECK(contains(report.warning, "is off, MLX's operations run instead"));
      CHECK(contains(report.warning, compiles ? "off by" : "no such builtin"));
      CHECK(contains(report.steps, "MLX's operations: the kernel failed its test"));
    }
  }
}

TEST_CASE("every cache answers on the kernels, also where a side or a range has none") {
  const TemporaryDirectory folder;
  const Environment cache("XDG_CACHE_HOME", folder.path().c_str());
  const auto engine = engine_with(emulator::emulated({.seed = 5}));
  for (const char* text : {"baseline", "mlx_quant", "turboquant:k=4:v=16:window=20", "turboquant:k=16:v=5",
                           "turboquant:layers=3/k=5/v=2:sink=4"}) {
    CAPTURE(text);
    const std::filesystem::path file = saved(folder, KvFormat::parse(text));
    CHECK(compare(answer(on_mlx(), file), answer(*engine, file), 8192).mean_kl < 1e-6);
  }
}
