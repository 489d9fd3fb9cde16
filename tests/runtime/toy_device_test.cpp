// What a third device needs: a toy with its own layout of pages, run through timeline, steps, snapshots and files. It
// computes nothing that a model would; its logits are a hash of all that its state holds.
#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/checksum.h"
#include "cache/accounting.h"
#include "cache/session/layout.h"
#include "runtime/device_engine.h"
#include "runtime/plan/plan.h"
#include "support/failure.h"
#include "support/reference.h"
#include "support/temporary_directory.h"
#include "tqkv/error.h"
#include "tqkv/saved_session.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

constexpr std::size_t toy_page = 16;    // tokens
constexpr std::uint64_t finite = 0x3f;  // of every byte, so that all of them are numbers

struct ToySnapshot final : DeviceSnapshot {
  std::vector<std::vector<std::byte>> fixed;
  std::uint64_t bytes() const override { return fixed.size(); }
};

struct ToyState final : DeviceState {
  ToyState(const ModelConfig& a_config, const KvFormat& a_format, Precision precision, StateType a_type)
      : config(a_config), stored(a_format), state_type(a_type) {
    if (stored.backend != Backend::baseline) throw Error(ErrorKind::format, "toy: plain caches alone");
    // Room for what canonical tensors have: their bytes follow from shapes.
    for (const cache::SessionTensor& tensor :
         cache::session_layout(config, {stored, precision, state_type, 1, 0, false})) {
      if (tensor.layer < 0) continue;
      if (tensor.paged())
        pages.push_back({tensor.layer, tensor.keys, tensor.bytes, {}});
      else
        fixed.emplace_back(tensor.bytes);
    }
  }
  const KvFormat& format() const override { return stored; }
  StateType type() const override { return state_type; }
  void reserve(int tokens) override {
    for (Side& side : pages)
      while (side.held.size() * toy_page < static_cast<std::size_t>(tokens))
        side.held.emplace_back(toy_page * side.token_bytes);
  }
  std::uint64_t kv_bytes(int tokens) const override { return 100 * static_cast<std::uint64_t>(tokens); }
  std::unique_ptr<DeviceSnapshot> snapshot() const override {
    auto snapshot = std::make_unique<ToySnapshot>();
    snapshot->fixed = fixed;
    return snapshot;
  }
  void restore(const DeviceSnapshot& snapshot, int position) override {
    fixed = dynamic_cast<const ToySnapshot&>(snapshot).fixed;
    for (Side& side : pages) side.held.resize((static_cast<std::size_t>(position) + toy_page - 1) / toy_page);
  }
  std::unique_ptr<DeviceState> fork(const DeviceSnapshot& snapshot, int position) const override {
    auto forked = std::make_unique<ToyState>(*this);
    forked->restore(snapshot, position);
    return forked;
  }
  CacheReport report(int tokens) const override {
    CacheReport report;
    report.format = stored;
    report.tokens = tokens;
    report.bytes.kv_allocated = kv_bytes(tokens);
    return report;
  }
  void save(const cache::SessionTensor& tensor,
            const std::function<void(std::span<const std::byte>)>& sink) const override {
    if (!tensor.paged()) return sink(fixed[fixed_of(tensor)]);
    const Side& side = pages[side_of(tensor)];
    std::vector<std::byte> token(side.token_bytes);
    for (int t = tensor.first_token; t < tensor.first_token + tensor.tokens; ++t) {
      for (std::size_t i = 0; i < token.size(); ++i) token[i] = side.held[page(t)][side.at(t, i)];
      sink(token);
    }
  }
  void load(const cache::SessionTensor& tensor, int, int first, int count, std::span<const std::byte> bytes) override {
    if (!tensor.paged()) {
      std::memcpy(fixed[fixed_of(tensor)].data(), bytes.data(), bytes.size());
      return;
    }
    Side& side = pages[side_of(tensor)];
    while (side.held.size() * toy_page < static_cast<std::size_t>(first + count))
      side.held.emplace_back(toy_page * side.token_bytes);
    for (int t = first; t < first + count; ++t)
      for (std::size_t i = 0; i < side.token_bytes; ++i, bytes = bytes.subspan(1))
        side.held[page(t)][side.at(t, i)] = bytes.front();
  }

  // A token changes every byte of the state and writes its own page; bytes of a page lie across its tokens, backwards.
  void add(int id, int position) {
    const int word[2] = {id, position};
    std::uint64_t h = checksum(std::as_bytes(std::span(word)));
    for (auto& part : fixed)
      for (std::size_t i = 0; i < part.size(); ++i) part[i] ^= static_cast<std::byte>(h >> (8 * (i % 8)) & finite);
    for (Side& side : pages)
      for (std::size_t i = 0; i < side.token_bytes; ++i, h = h * 6364136223846793005u + 1)
        side.held[page(position)][side.at(position, i)] = static_cast<std::byte>(h >> 56 & finite);
  }
  void logits(int tokens, std::span<float> out) const {
    std::uint64_t h = 0;
    for (const auto& part : fixed) h = 31 * h + checksum(part);
    for (const Side& side : pages)
      for (int t = 0; t < tokens; ++t)
        for (std::size_t i = 0; i < side.token_bytes; ++i)
          h = 31 * h + std::to_integer<std::uint64_t>(side.held[page(t)][side.at(t, i)]);
    for (float& one : out) one = static_cast<float>((h = h * 6364136223846793005u + 1) >> 40);
  }

  struct Side {
    int layer;
    bool keys;
    std::size_t token_bytes;
    std::vector<std::vector<std::byte>> held;
    std::size_t at(int token, std::size_t i) const {
      return (token_bytes - 1 - i) * toy_page + static_cast<std::size_t>(token) % toy_page;
    }
  };
  static std::size_t page(int token) { return static_cast<std::size_t>(token) / toy_page; }
  std::size_t side_of(const cache::SessionTensor& tensor) const {
    std::size_t index = 0;
    while (pages[index].layer != tensor.layer || pages[index].keys != tensor.keys) ++index;
    return index;
  }
  std::size_t fixed_of(const cache::SessionTensor& tensor) const {
    std::size_t index = tensor.part == cache::SessionPart::recurrent ? 0 : fixed.size() / 2;
    for (int layer = 0; layer < tensor.layer; ++layer)
      index += config.layers[static_cast<std::size_t>(layer)] == LayerKind::full_attention ? 0 : 1;
    return index;
  }

  const ModelConfig& config;
  KvFormat stored;
  StateType state_type;
  std::vector<Side> pages;
  std::vector<std::vector<std::byte>> fixed;  // recurrent states, then convolutions, in the order of layers
};

class ToyEngine final : public DeviceEngine {
 public:
  ToyEngine() : DeviceEngine(Checkpoint::open(pocket_directory()), Precision::fast, {}) {}
  DeviceReport device() const override { return {Device::parse("toy"), precision(), {}}; }
  std::unique_ptr<DeviceState> make_state(const KvFormat& format, StateType type) const override {
    return std::make_unique<ToyState>(config(), format, precision(), type);
  }
  std::uint64_t growth(std::span<const Piece>) const override { return 0; }
  bool pass(std::span<const Piece> pieces, const std::atomic<bool>*) const override {
    std::vector<float> row(static_cast<std::size_t>(config().vocab_size));
    for (const Piece& piece : pieces) {
      auto& state = dynamic_cast<ToyState&>(*piece.state);
      for (int i = 0; i < static_cast<int>(piece.ids.size()); ++i) {
        state.add(piece.ids[static_cast<std::size_t>(i)], piece.position + i);
        if (!piece.rows || i < piece.first_row) continue;
        state.logits(piece.position + i + 1, row);
        (*piece.rows)(i, row);
      }
      if (piece.keep) *piece.keep = state.snapshot();
      if (piece.last_logits)
        state.logits(piece.position + static_cast<int>(piece.ids.size()), {piece.last_logits, row.size()});
    }
    return true;
  }
  void run_tasks(int count, const std::function<void(int)>& task) const override {
    for (int i = 0; i < count; ++i) task(i);
  }
};

// Its row of the table: 64 MB of memory of its own.
const DeviceKind toy = {
    .name = "toy",
    .missing = [] { return std::string(); },
    .load = [](Checkpoint, const DeviceOptions&) -> std::unique_ptr<Engine> { return std::make_unique<ToyEngine>(); },
    .working_memory = [](const ModelConfig&, const DeviceOptions&, const PassSize& size) -> std::uint64_t {
      return 1000 * static_cast<std::uint64_t>(size.rows);
    },
    .memory =
        [](const DeviceOptions&) {
          return DeviceMemory{"toy memory", 64'000'000};
        }};

std::vector<float> copy(std::span<const float> logits) {
  return {logits.begin(), logits.end()};
}

std::vector<int> ids_from(int first, int count) {
  std::vector<int> ids;
  for (int i = 0; i < count; ++i) ids.push_back(first + 7 * i);
  return ids;
}

}  // namespace

TEST_CASE("a device of its own has chunks, snapshots, saved sessions and steps from the timeline") {
  const ToyEngine engine;
  const KvFormat plain = KvFormat::of(Backend::baseline);
  SessionOptions options;
  options.context = 300;
  options.prefill_chunk = 9;
  const std::vector<int> ids = ids_from(3, 50), more = ids_from(900, 5);
  const auto session = engine.open(plain, options);
  int rows = 0;
  PrefillOptions prefill;
  prefill.rows = [&](int, std::span<const float>) { ++rows; };
  const auto expected = copy(session->prefill(ids, prefill));
  CHECK(rows == 50);
  CHECK(session->position() == 50);

  const auto at = session->snapshot();
  const auto after = copy(session->prefill(more));
  session->restore(*at);
  CHECK(session->position() == 50);
  CHECK(session->logits().empty());
  CHECK(copy(session->prefill(more)) == after);

  const TemporaryDirectory directory;
  session->save(directory / "toy.session", {NextText::raw, {4, 5}});
  const SavedSession saved = SavedSession::open(directory / "toy.session");
  CHECK(saved.identity().device.canonical() == "toy");
  const auto resumed = engine.restore(saved, options);
  CHECK(copy(resumed->logits()) == after);
  CHECK(copy(resumed->decode(8)) == copy(session->decode(8)));

  const auto forked = engine.fork(*session, *at, options);
  CHECK(forked->position() == 50);
  CHECK(copy(forked->prefill(more)) == after);

  // Alone and in company; one of them in its prompt.
  const auto a = engine.open(plain, options), b = engine.open(plain, options);
  a->prefill(std::span(ids).first(41));
  std::vector<Work> work{{b.get(), more}, {a.get(), std::span(ids).subspan(41, 9)}};
  engine.step(work);
  CHECK(copy(work[1].logits) == expected);
  const auto alone = engine.open(plain, options);
  CHECK(copy(work[0].logits) == copy(alone->prefill(more)));
  CHECK_THROWS_AS(engine.open(KvFormat::of(Backend::turboquant), options), Error);
}

TEST_CASE("a device with memory of its own has a plan that counts weights and sessions there") {
  const ToyEngine engine;
  PlanRequest request{{Device::parse("toy"), Precision::fast, {}}, {300, 9, StateType::f32}};
  const MemoryPlan plan = plan_memory(toy, engine.config(), 20'000'000, KvFormat::of(Backend::baseline), request);
  CHECK(plan.scratch == 9000);
  REQUIRE(plan.device);
  CHECK(plan.device->needed == 20'000'000 + plan.kv + plan.recurrent + plan.convolution + plan.scratch);
  CHECK(plan.anonymous() == plan.vocabulary);
  CHECK(plan.verdict == Verdict::fits);
  CHECK(contains(describe(plan), "toy memory"));
  CHECK(contains(describe(plan), "of 64.00 MB available"));
  CHECK(plan.largest_context > 300);

  request.session.context = 0;  // the native context
  const MemoryPlan large = plan_memory(toy, engine.config(), 60'000'000, KvFormat::of(Backend::baseline), request);
  CHECK(large.verdict == Verdict::refused);
  CHECK(large.largest_context < large.context);
  CHECK(contains(failure(ErrorKind::memory, [&] { require_fit(large); }), "of toy memory, weights included"));
}

TEST_CASE("a plan names the array that is larger than one can be on the device") {
  const ToyEngine engine;
  DeviceKind small = toy;
  small.memory = [](const DeviceOptions&) { return DeviceMemory{"toy memory", 64'000'000, false, 5'000'000}; };
  small.largest_array = [](const ModelConfig&, const DeviceOptions&, const PassSize& size) {
    return 10'000 * static_cast<std::uint64_t>(size.context);
  };
  PlanRequest request{{Device::parse("toy"), Precision::fast, {}}, {500, 9, StateType::f32}};
  const auto plan = [&] {
    return plan_memory(small, engine.config(), 20'000'000, KvFormat::of(Backend::baseline), request);
  };
  CHECK(plan().verdict == Verdict::fits);
  CHECK(plan().largest_context == 256);  // whole pages
  request.session.context = 501;
  CHECK(plan().verdict == Verdict::refused);
  const std::string told = failure(ErrorKind::memory, [&] { require_fit(plan()); });
  CHECK(contains(told, "need one array of 5.01 MB, but one of toy memory can have 5.00 MB"));
}
