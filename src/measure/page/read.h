// Parts of the reading of a report's files (data.h).
#pragma once
#include "measure/files/measured.h"
#include "measure/page/data.h"

namespace tqkv::measure {

/// Adds the file to the evaluation it belongs to, or to a new one.
void add_evaluation(const MeasuredFile& file, const Source& source, ReportData& data);
/// Throws Error(input) for a tuning that is not finished.
TuningData read_tuning(const MeasuredFile& file);

}  // namespace tqkv::measure
