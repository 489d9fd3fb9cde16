// Names of tensors and modules: one spelling for the several that converters write.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace tqkv {

/// Whether a tensor, or a module, belongs to a part that is known to be unused: the vision tower, multi-token
/// prediction, rotary tables. The one list of them.
bool unused_tensor(std::string_view name);

/// "model.language_model.X" and "model.X" become "language_model.model.X", "lm_head.X" becomes
/// "language_model.lm_head.X"; nothing for what is unused.
std::optional<std::string> canonical_name(std::string_view name);

/// Whether `name` is a file name and nothing else: no folder, not "." or "..", nothing unprintable.
bool plain_file_name(std::string_view name);

/// `name` cut to a length that fits a message, control characters escaped (base/printable.h).
std::string shown(std::string_view name);

}  // namespace tqkv
