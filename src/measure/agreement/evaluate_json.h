// The file of an evaluation, as far as it is needed inside.
#pragma once
#include <string>
#include <string_view>

#include "measure/agreement/evaluate.h"

namespace tqkv::measure {

/// Takes what a file of an unfinished evaluation holds: recall of the reference, noise floor and runs. Everything else
/// of `into` is set and must agree. Throws Error(input) that names the file.
void take_finished(Evaluation& into, const std::string& file, std::string_view json);

}  // namespace tqkv::measure
