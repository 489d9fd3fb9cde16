#include "measure/tune/file.h"
#include "measure/files/machine.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "measure/files/json_object.h"
#include "tqkv/version.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json settings_of(const Tuning& tuning) {
  return {{"text", tuning.text},
          {"text_digest", tuning.text_digest},
          {"tokens", tuning.tokens},
          {"held_out_tokens", tuning.held_out_tokens},
          {"precision", name(tuning.options.precision)},
          {"state", name(tuning.options.state)},
          {"prefill_chunk", tuning.options.prefill_chunk}};
}

Json json_of(const TuneMeasurement& one) {
  return {{"held_out", one.held_out}, {"format", one.format}, {"kl", one.kl},          {"kl_se", or_null(one.kl_se)},
          {"same_top", one.same_top}, {"ratio", one.ratio},   {"seconds", one.seconds}};
}

Json json_of(const TuneSide& side) {
  Json points = Json::array();
  for (const TuneSide::Point& point : side.points)
    points.push_back({{"bits", point.bits}, {"stored", point.stored}, {"bytes", point.bytes}, {"kl", point.kl}});
  return {{"layer", side.layer}, {"side", side.keys ? "k" : "v"}, {"points", points}};
}

}  // namespace

std::string to_json(const Tuning& tuning) {
  const TuneGoal& goal = tuning.options.goal;
  Json measurements = Json::array(), sides = Json::array();
  for (const TuneMeasurement& one : tuning.measurements) measurements.push_back(json_of(one));
  for (const TuneSide& side : tuning.sides) sides.push_back(json_of(side));
  Json json = {
      {"schema", 1},
      {"kind", "tuning"},
      {"tool", {{"name", "tqkv"}, {"version", version}}},
      {"command", tuning.options.command},
      {"model", {{"name", tuning.model}, {"shape", tuning.shape}, {"fingerprint", tuning.fingerprint}}},
      {"machine", machine_json(tuning.device, tuning.memory)},
      {"settings", settings_of(tuning)},
      {"goal",
       {{"bits", or_null(goal.bits)}, {"bytes_per_token", or_null(goal.bytes_per_token)}, {"kl", or_null(goal.kl)}}},
      {"measurements", measurements},
      {"finished", tuning.finished}};
  if (tuning.finished) {
    json["sides"] = sides;
    json["chosen"] = {{"format", tuning.chosen.canonical()},
                      {"goal_reached", tuning.goal_reached},
                      {"predicted_kl", tuning.predicted_kl},
                      {"bytes_per_token", tuning.bytes_per_token},
                      {"default_bytes_per_token", tuning.default_bytes_per_token},
                      {"fixed_bytes", tuning.fixed_bytes}};
    json["compared"] = tuning.compared;
  }
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

void take_measurements(Tuning& into, const std::string& file, std::string_view text) {
  const nlohmann::json raw =
      parse_resumed(file, text, {"tuning", "tune", into.fingerprint, into.device.device, settings_of(into)});
  const JsonObject json(file, raw, "the file");
  std::vector<TuneMeasurement> taken;
  constexpr double most = 1e6;
  for (const JsonObject& one : json.objects("measurements"))
    taken.push_back({one.truth_or("held_out", false), one.text("format"), one.number("kl", 0, most),
                     one.number_or_none("kl_se", 0, most), one.number("same_top", 0, 1), one.number("ratio", 0, most),
                     one.number("seconds", 0, 1e9)});
  into.measurements = std::move(taken);
}

}  // namespace tqkv::measure
