// A session on a machine whose memory runs out: it stops before a step, and nothing is lost.
#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <vector>

#include "cache/accounting.h"
#include "runtime/cpu/kernels.h"
#include "runtime/cpu/scratch.h"
#include "support/reference.h"
#include "tqkv/error.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

constexpr int chunk = 64;
constexpr std::uint64_t plenty = std::uint64_t{1} << 40;

std::vector<int> document(int count) {
  auto ids = pocket_reference().at("needle.ids").ints();
  ids.resize(static_cast<std::size_t>(count));
  return ids;
}

/// The pocket model on a machine with `available` bytes, which the test may change.
struct Machine {
  std::uint64_t available = plenty;
  int looks = 0;
  std::unique_ptr<Engine> engine;
  explicit Machine(std::uint64_t keep_free = 1000) {
    DeviceOptions options;
    options.device = cpu_device({}, 1);
    options.guard = {[this] {
                       ++looks;
                       return available;
                     },
                     keep_free};
    engine = Engine::load(Checkpoint::open(pocket_directory()), options);
  }
  std::unique_ptr<Session> open() const {
    SessionOptions options;
    options.context = 1024;
    options.prefill_chunk = chunk;
    return engine->open(KvFormat::of(Backend::turboquant), options);
  }
};

std::string refusal(const std::function<void()>& step) {
  try {
    step();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::memory);
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("a prefill that memory runs out in stops at a chunk, and goes on from there with the same bits") {
  Machine machine;
  const std::vector<int> ids = document(4 * chunk + 10);
  const auto whole = machine.open();
  const auto expected = whole->prefill(ids);
  const std::vector<float> logits(expected.begin(), expected.end());

  const auto session = machine.open();
  PrefillOptions options;
  options.progress = [&](int done) {
    if (done == 4 * chunk) machine.available = 1000;  // the next chunk begins a page
    return true;
  };
  const std::string why = refusal([&] { session->prefill(ids, options); });
  CHECK(why.find("[memory] stopped after 256 tokens") == 0);
  CHECK(why.find('\n') == std::string::npos);
  CHECK(session->position() == 4 * chunk);
  CHECK(session->logits().empty());

  machine.available = plenty;
  const auto rest = session->prefill(std::span(ids).subspan(4 * chunk));
  CHECK(std::vector<float>(rest.begin(), rest.end()) == logits);
}

TEST_CASE("a step of decode for which there is no room changes nothing") {
  Machine machine;
  const std::vector<int> ids = document(256);
  const auto session = machine.open();
  const auto first = session->prefill(ids);
  const std::vector<float> before(first.begin(), first.end());
  machine.available = 1000;
  CHECK(refusal([&] { session->decode(5); }).find("the next token needs") != std::string::npos);
  CHECK(session->position() == 256);
  CHECK(std::vector<float>(session->logits().begin(), session->logits().end()) == before);
  machine.available = plenty;
  CHECK_NOTHROW(session->decode(5));
  CHECK(session->position() == 257);
}

TEST_CASE("what a step needs is its pages and the working memory that was not touched yet, to the byte") {
  Machine machine(5'000'000);
  const auto& config = machine.engine->config();
  const KvFormat format = KvFormat::of(Backend::turboquant);
  const auto pages = [&](int tokens) {
    return cache::cache_bytes(config, format, tokens, StateType::f32).kv_allocated;
  };
  const auto scratch = [&](int tokens) {
    return cpu::scratch_bytes(config, {Precision::fast, tokens, 1, 1024, 1, cache::widest_vector(config, format)},
                              cpu::kernels());
  };
  const std::vector<int> ids = document(300);
  const std::uint64_t first = 5'000'000 + pages(10) + scratch(10);
  const auto session = machine.open();
  machine.available = first - 1;
  CHECK(!refusal([&] { session->prefill(std::span(ids).first(10)); }).empty());
  machine.available = first;
  CHECK_NOTHROW(session->prefill(std::span(ids).first(10)));

  const std::uint64_t second = 5'000'000 + scratch(chunk) - scratch(10);  // still in the first page
  machine.available = second - 1;
  CHECK(!refusal([&] { session->prefill(std::span(ids).subspan(10, chunk)); }).empty());
  machine.available = second;
  CHECK_NOTHROW(session->prefill(std::span(ids).subspan(10, chunk)));
}

TEST_CASE("a machine that does not tell, and an engine without a guard, stop nothing") {
  Machine machine;
  machine.available = 0;
  CHECK_NOTHROW(machine.open()->prefill(document(100)));
  CHECK(machine.looks > 0);
  CHECK_NOTHROW(pocket(Precision::fast).open(KvFormat::of(Backend::turboquant))->prefill(document(10)));
}
