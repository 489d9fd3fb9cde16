// The file of a tuning, as far as it is needed inside.
#pragma once
#include <string>
#include <string_view>

#include "measure/tune/tune.h"

namespace tqkv::measure {

/// Takes the measurements of a file. Everything else of `into` is set and must agree, except for the goal. Throws
/// Error(input) that names the file.
void take_measurements(Tuning& into, const std::string& file, std::string_view json);

}  // namespace tqkv::measure
