#include "measure/tune/file.h"

#include <nlohmann/json.hpp>

#include "measure/files/measured.h"
#include "measure/files/tuning_fields.h"

namespace tqkv::measure {
namespace {

using Json = nlohmann::ordered_json;

Json settings_of(const Tuning& tuning) {
  return {{"text", tuning.text},
          {"text_digest", tuning.text_digest},
          {"tokens", tuning.tokens},
          {"held_out_tokens", tuning.held_out_tokens},
          {"precision", name(tuning.options.precision)},
          {"state", name(tuning.options.state)},
          {"prefill_chunk", tuning.options.prefill_chunk}};
}

}  // namespace

std::string to_json(const Tuning& tuning) {
  Json json = header_json("tuning", tuning, settings_of(tuning));
  json.update(JsonWriter::json_of<TuningFigures>(tuning));
  return file_text(json, 1);
}

void take_measurements(Tuning& into, const std::string& file, std::string_view text) {
  const MeasuredFile before = read_resumed(file, text, {"tuning", "tune", into, settings_of(into)});
  TuningFigures figures;
  take(before.top(), figures);
  into.measurements = std::move(figures.measurements);
}

}  // namespace tqkv::measure
