// Engine::step: several sessions in one pass over the weights, each with the bits that it has alone.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/cpu/engine.h"
#include "support/reference.h"
#include "support/sanitized.h"
#include "support/sessions.h"
#include "tqkv/error.h"
#include "tqkv/sampling.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

std::unique_ptr<Engine> engine_of(const std::string& isa, int threads, Precision precision) {
  DeviceOptions options;
  options.device = cpu_device(isa, threads);
  options.precision = precision;
  return Engine::load(Checkpoint::open(pocket_directory()), options);
}

/// What one session does: pieces of ids, one a step; from `start` on.
struct Script {
  std::string format;
  StateType state = StateType::f32;
  int start = 0;
  std::vector<std::vector<int>> pieces = {};
};

std::vector<Script> scripts(int sessions, int steps) {
  const char* formats[] = {"default",
                           "turboquant",
                           "baseline",
                           "trellis:bits=2:window=5",
                           "mlx_quant:bits=8",
                           "turboquant:split=1",
                           "qjl",
                           "default:bits=3:mean=3:window=8",
                           "turboquant:bits=3:sink=2",
                           "polarquant",
                           "trellis:k=5:v=4:layers=7/k=8"};
  std::vector<Script> all;
  for (int i = 0; i < sessions; ++i) {
    Script script;
    script.format = formats[static_cast<std::size_t>(i) % std::size(formats)];
    script.state = i % 5 == 4 ? StateType::bf16 : StateType::f32;
    script.start = i % 4;
    for (int step = script.start; step < steps; ++step) {
      // Decoded tokens, short pieces, pieces of a prompt across the limits of chunks; some sessions rest in between.
      const int kind = (3 * i + 2 * step) % 11;
      const int count = step == script.start ? 5 + 37 * (i % 4) : kind == 3 ? 70 : kind == 6 ? 3 : kind == 9 ? 0 : 1;
      script.pieces.push_back(some_ids(static_cast<unsigned>(1000 * i + step), count));
    }
    all.push_back(std::move(script));
  }
  return all;
}

std::unique_ptr<Session> open(const Engine& engine, const Script& script) {
  SessionOptions options;
  options.context = 2048;
  options.state = script.state;
  return engine.open(KvFormat::parse(script.format), options);
}

struct Outcome {
  std::vector<std::vector<float>> logits;  // after each piece
  std::string file;                        // the bytes of its file
};

Outcome alone(const Engine& engine, const Script& script) {
  Outcome out;
  const auto session = open(engine, script);
  for (const auto& piece : script.pieces) {
    if (piece.empty()) continue;
    const auto logits = session->prefill(piece);
    out.logits.emplace_back(logits.begin(), logits.end());
  }
  out.file = saved(*session);
  return out;
}

std::vector<Outcome> in_company(const Engine& engine, const std::vector<Script>& all, int steps) {
  std::vector<std::unique_ptr<Session>> sessions;
  for (const Script& script : all) sessions.push_back(open(engine, script));
  std::vector<Outcome> out(all.size());
  for (int step = 0; step < steps; ++step) {
    std::vector<Work> work;
    std::vector<std::size_t> who;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (step < all[i].start) continue;
      const auto& piece = all[i].pieces[static_cast<std::size_t>(step - all[i].start)];
      if (piece.empty()) continue;
      work.push_back({sessions[i].get(), piece});
      who.push_back(i);
    }
    engine.step(work);
    for (std::size_t i = 0; i < work.size(); ++i) {
      REQUIRE_FALSE(work[i].error);
      out[who[i]].logits.emplace_back(work[i].logits.begin(), work[i].logits.end());
    }
  }
  for (std::size_t i = 0; i < all.size(); ++i) out[i].file = saved(*sessions[i]);
  return out;
}

void compare(const std::string& isa, Precision precision, int sessions, int steps) {
  CAPTURE(isa);
  CAPTURE(name(precision));
  const std::vector<Script> all = scripts(sessions, steps);
  const auto one_thread = engine_of(isa, 1, precision), three_threads = engine_of(isa, 3, precision);
  const std::vector<Outcome> together = in_company(*three_threads, all, steps),
                             together_on_one = in_company(*one_thread, all, steps);
  for (std::size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    CAPTURE(all[i].format);
    const Outcome expected = alone(*three_threads, all[i]);
    CHECK(together[i].logits == expected.logits);
    CHECK((together[i].file == expected.file));
    CHECK((together_on_one[i].file == expected.file));
  }
}

}  // namespace

TEST_CASE("sixteen sessions of different formats, lengths and phases have the bits that each has alone" *
          doctest::skip(sanitized)) {
  for (const std::string_view isa : cpu::available_isas()) {
    compare(std::string(isa), Precision::fast, isa == "portable" ? 6 : 16, isa == "portable" ? 5 : 9);
    compare(std::string(isa), Precision::f32, 6, isa == "portable" ? 3 : 7);
  }
}

TEST_CASE("a part of a step that is refused says why, and the others go on") {
  const Engine& engine = pocket(Precision::fast);
  SessionOptions small;
  small.context = 8;
  small.prefill_chunk = 4;
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 6; ++i) sessions.push_back(engine.open(KvFormat::usual(), small));
  const auto other_engine = engine_of("", 1, Precision::fast);
  const auto stranger = other_engine->open(KvFormat::usual(), small);
  const std::vector<int> good{5, 6, 7}, beyond{5, 1 << 30}, none, five{1, 2, 3, 4, 5};
  sessions[4]->prefill(good);
  sessions[4]->prefill(good);
  std::vector<Work> work{{sessions[0].get(), good},
                         {sessions[1].get(), beyond},
                         {sessions[2].get(), none},
                         {sessions[3].get(), five},
                         {sessions[4].get(), good},
                         {sessions[0].get(), good},
                         {stranger.get(), good},
                         {nullptr, good},
                         {sessions[5].get(), good, Want::nothing}};
  engine.step(work);
  const auto refusal = [&](std::size_t i) { return work[i].error ? std::string(work[i].error->what()) : ""; };
  CHECK(refusal(0).empty());
  CHECK(refusal(1).find("is not between 0 and") != std::string::npos);
  CHECK(refusal(2).find("no tokens") != std::string::npos);
  CHECK(refusal(3).find("5 tokens are more than a pass takes: 4") != std::string::npos);
  CHECK(refusal(4).find("do not fit a context of 8") != std::string::npos);
  CHECK(refusal(5).find("twice") != std::string::npos);
  CHECK(refusal(6).find("not of this engine") != std::string::npos);
  CHECK(refusal(7).find("not of this engine") != std::string::npos);
  CHECK(refusal(8).empty());
  CHECK(sessions[0]->position() == 3);
  CHECK(sessions[1]->position() == 0);
  CHECK(sessions[4]->position() == 6);
  CHECK(sessions[5]->position() == 3);
  CHECK(work[8].logits.empty());
  CHECK(sessions[5]->logits().empty());

  const auto fresh = engine.open(KvFormat::usual(), small);
  const auto expected = fresh->prefill(good);
  CHECK(std::vector<float>(work[0].logits.begin(), work[0].logits.end()) ==
        std::vector<float>(expected.begin(), expected.end()));
}

TEST_CASE("a step draws the ids that a sampler draws from the logits of each session alone") {
  const Engine& engine = pocket(Precision::fast);
  Sampling random;
  random.temperature = 0.9f;
  random.repetition_penalty = 1.1f;
  random.seed = 5;
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<std::vector<int>> ids;
  std::vector<Sampler> samplers;
  for (int i = 0; i < 3; ++i) {
    sessions.push_back(engine.open(KvFormat::usual()));
    ids.push_back(some_ids(static_cast<unsigned>(40 + i), 6 + i));
    samplers.emplace_back(random);
  }
  std::vector<std::vector<int>> drawn(3);
  for (int step = 0; step < 5; ++step) {
    std::vector<Work> work;
    for (std::size_t i = 0; i < 3; ++i) work.push_back({sessions[i].get(), ids[i], Want::id, &samplers[i]});
    engine.step(work);
    for (std::size_t i = 0; i < 3; ++i) {
      REQUIRE_FALSE(work[i].error);
      CHECK(work[i].logits.empty());
      drawn[i].push_back(work[i].id);
      ids[i] = {work[i].id};
    }
  }
  for (std::size_t i = 0; i < 3; ++i) {
    const auto session = engine.open(KvFormat::usual());
    Sampler sampler(random);
    auto logits = session->prefill(some_ids(static_cast<unsigned>(40 + i), 6 + static_cast<int>(i)));
    for (const int expected : drawn[i]) {
      const int id = sampler.next(logits, static_cast<std::uint64_t>(session->position()));
      CHECK(id == expected);
      logits = session->decode(id);
    }
  }
  std::vector<Work> without{{sessions[0].get(), ids[0], Want::id}};
  engine.step(without);
  REQUIRE(without[0].error);
  CHECK(std::string(without[0].error->what()).find("no sampler") != std::string::npos);
}

TEST_CASE("a step for which memory is missing is refused for the sessions that do not fit any more") {
  std::uint64_t available = std::uint64_t{1} << 40;
  DeviceOptions options;
  options.device = cpu_device({}, 1);
  options.guard = {[&] { return available; }, 1000};
  const auto engine = Engine::load(Checkpoint::open(pocket_directory()), options);
  const std::vector<int> page = some_ids(3, 256), one{5};
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 2; ++i) sessions.push_back(engine->open(KvFormat::of(Backend::turboquant)));
  sessions[0]->prefill(page);                        // its next token begins a page
  sessions[1]->prefill(std::span(page).first(200));  // whose page has room
  std::vector<Work> warm{{sessions[1].get(), one}};
  engine->step(warm);
  // Two that begin a page, and room for one: what the first will touch is no longer free for the second.
  std::vector<std::unique_ptr<Session>> full;
  for (int i = 0; i < 2; ++i) {
    full.push_back(engine->open(KvFormat::of(Backend::turboquant)));
    full.back()->prefill(page);
  }
  std::vector<Work> both{{full[0].get(), one}, {full[1].get(), one}};
  const std::uint64_t of_page = full[0]->cache().bytes.kv_allocated;
  std::vector<Work> two_warm{{sessions[1].get(), one}, {full[0].get(), one}};
  engine->step(two_warm);  // the workspace has room for two
  full[0] = engine->open(KvFormat::of(Backend::turboquant));
  full[0]->prefill(page);
  both[0].session = full[0].get();
  available = 1000 + of_page + of_page / 2;
  engine->step(both);
  CHECK_FALSE(both[0].error);
  REQUIRE(both[1].error);
  CHECK(both[1].error->kind() == ErrorKind::memory);
  CHECK(full[1]->position() == 256);

  available = 2000;
  std::vector<Work> work{{sessions[0].get(), one}, {sessions[1].get(), one}};
  engine->step(work);
  REQUIRE(work[0].error);
  CHECK(work[0].error->kind() == ErrorKind::memory);
  CHECK_FALSE(work[1].error);
  CHECK(sessions[0]->position() == 256);
  CHECK(sessions[1]->position() == 203);
}

TEST_CASE("open sessions share one workspace") {
  const auto engine = engine_of("", 2, Precision::fast);
  const auto& workspaces = dynamic_cast<const cpu::CpuEngine&>(*engine).workspaces();
  SessionOptions options;
  options.prefill_chunk = 512;
  const std::vector<int> ids = some_ids(9, 40);
  std::vector<std::unique_ptr<Session>> sessions;
  for (int i = 0; i < 32; ++i) {
    sessions.push_back(engine->open(KvFormat::usual(), options));
    sessions.back()->prefill(ids);
    sessions.back()->decode(7);
  }
  const std::uint64_t of_many = workspaces.bytes();
  const auto single = engine_of("", 2, Precision::fast);
  single->open(KvFormat::usual(), options)->prefill(ids);
  CHECK(of_many == dynamic_cast<const cpu::CpuEngine&>(*single).workspaces().bytes());
  CHECK(of_many > 0);
}
