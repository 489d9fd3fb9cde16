// The file of a tuning, schema 1, behind its header (files/measured.h).
#pragma once
#include "measure/files/fields.h"
#include "measure/files/tuning.h"

namespace tqkv::measure {

template <class Fields>
void describe(Fields& fields, Described<Fields, TuneGoal>& goal) {
  fields.field("bits", goal.bits, Limits{0, 64});
  fields.field("bytes_per_token", goal.bytes_per_token);
  fields.field("kl", goal.kl, Limits{0, 1e6});
}

template <class Fields>
void describe(Fields& fields, Described<Fields, TuneMeasurement>& one) {
  fields.field("held_out", one.held_out);
  fields.field("format", one.format);
  fields.field("kl", one.kl, Limits{0, 1e6});
  fields.field("kl_se", one.kl_se, Limits{0, 1e6});
  fields.field("same_top", one.same_top, a_share);
  fields.field("ratio", one.ratio, Limits{0, 1e6});
  fields.field("seconds", one.seconds, Limits{0, 1e9});
}

template <class Fields>
void describe(Fields& fields, Described<Fields, TuneSide::Point>& point) {
  fields.field("bits", point.bits, Limits{0, 32});
  fields.field("stored", point.stored);
  fields.field("bytes", point.bytes);
  fields.field("kl", point.kl, Limits{0, 1e6});
}

template <class Fields>
void describe(Fields& fields, Described<Fields, TuneSide>& side) {
  fields.field("layer", side.layer, Limits{0, 1 << 20});
  std::string which = side.keys ? "k" : "v";
  fields.field("side", which);
  fields.require(which == "k" || which == "v", "has a side that is neither k nor v");
  if constexpr (Fields::reading) side.keys = which == "k";
  fields.field("points", side.points);
}

template <class Fields>
void describe(Fields& fields, Described<Fields, TuningFigures>& tuning) {
  fields.field("goal", tuning.goal);
  fields.field("measurements", tuning.measurements);
  fields.field("finished", tuning.finished);
  if (!tuning.finished) return;
  fields.field("sides", tuning.sides);
  fields.object("chosen", [&](auto& chosen) {
    chosen.field("format", tuning.chosen);
    chosen.field("goal_reached", tuning.goal_reached);
    chosen.field("predicted_kl", tuning.predicted_kl, Limits{0, 1e6});
    chosen.field("bytes_per_token", tuning.bytes_per_token);
    chosen.field("default_bytes_per_token", tuning.default_bytes_per_token);
    chosen.field("fixed_bytes", tuning.fixed_bytes);
  });
  fields.field("compared", tuning.compared);
}

}  // namespace tqkv::measure
