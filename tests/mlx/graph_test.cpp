// What a step asks of MLX, counted in the graph before it is computed.
#include <doctest/doctest.h>
#include <mlx/primitives.h>

#include <map>
#include <set>
#include <string>

#include "mlx/support.h"
#include "runtime/mlx/engine.h"
#include "runtime/mlx/forward.h"
#include "runtime/mlx/state.h"

using namespace tqkv;
using namespace tqkv::test;

namespace {

namespace mx = ::mlx::core;

const tqkv::mlx::MlxEngine& engine() {
  return dynamic_cast<const tqkv::mlx::MlxEngine&>(on_mlx());
}

/// Operations that lie between what is there and `array`, by name.
void count(const mx::array& array, std::set<std::uintptr_t>& seen, std::map<std::string, int>& operations) {
  if (!array.has_primitive() || !seen.insert(array.id()).second) return;
  ++operations[array.primitive().name()];
  for (const mx::array& input : array.inputs()) count(input, seen, operations);
}

/// Of one decoded token after `tokens` others.
std::map<std::string, int> operations_of_step(const char* format, int tokens) {
  const std::vector<int> doc = ids_of("doc");
  const auto state = engine().make_state(KvFormat::parse(format).in_f32(), StateType::f32);
  auto& own = dynamic_cast<tqkv::mlx::MlxState&>(*state);
  Piece piece;
  piece.state = state.get();
  piece.ids = std::span(doc).first(static_cast<std::size_t>(tokens));
  engine().pass({&piece, 1}, nullptr);

  std::vector<float> angle(engine().rotary().inverse_frequency.size(), 0.5f);
  const auto half = static_cast<int>(angle.size());
  const mx::array row(angle.begin(), {1, half}, mx::float32);
  const tqkv::mlx::Pass pass{engine(), engine().config(), {{&own, 0, 1, tokens, nullptr}}, row, row};
  const mx::array hidden = tqkv::mlx::forward(pass, mx::array({7}, {1}, mx::int32));
  std::set<std::uintptr_t> seen;
  std::map<std::string, int> operations;
  count(hidden, seen, operations);
  for (const auto& linear : own.states) {
    count(linear.recurrent, seen, operations);
    count(linear.convolution, seen, operations);
  }
  return operations;
}

int sum(const std::map<std::string, int>& operations) {
  int all = 0;
  for (const auto& [name, times] : operations) all += times;
  return all;
}

}  // namespace

TEST_CASE("a decoded token asks MLX for few operations, as many after many tokens as after few") {
  const auto plain = operations_of_step("baseline", 20), coded = operations_of_step("turboquant", 20);
  MESSAGE("operations of a token on 8 layers: baseline " << sum(plain) << ", turboquant " << sum(coded));
  // On the processor norms and the delta rule are spelled out, which are one operation each on a GPU.
  CHECK(sum(plain) < 1550);
  CHECK(sum(coded) < 2050);
  CHECK(sum(operations_of_step("baseline", 120)) == sum(plain));
  // Every product of the model once: 2 attention layers with 4, 6 linear ones with 5, a router, the gate of the shared
  // expert and its 3, and 3 of the experts in each of 8.
  const auto times = [&](const std::string& name) {
    const auto found = plain.find(name);
    return found == plain.end() ? 0 : found->second;
  };
  CHECK(times("QuantizedMatmul") + times("Matmul") >= 2 * 4 + 6 * 5 + 8 * 5);
  CHECK(times("GatherQMM") == 8 * 3);
}
