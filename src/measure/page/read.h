// Parts of the reading of a report's files (report_data.h).
#pragma once
#include <vector>

#include "measure/files/json_object.h"
#include "measure/page/data.h"

namespace tqkv::measure {

inline constexpr double most_kl = 1e6;  // nats; more is no measurement

/// Adds the file to the evaluation it belongs to, or to a new one.
void add_evaluation(const JsonObject& top, Source& source, ReportData& data);
/// Throws Error(input) for a tuning that is not finished.
TuningData read_tuning(const JsonObject& top, const Source& source);
KindsOfBytes read_bytes(const JsonObject& json);
std::vector<StoredLayer> read_layers(const JsonObject& json);

}  // namespace tqkv::measure
