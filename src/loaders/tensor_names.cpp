#include "loaders/tensor_names.h"

#include "base/printable.h"

namespace tqkv {
namespace {

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

bool unprintable(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

}  // namespace

bool unused_tensor(std::string_view name) {
  // Parts of a model that answers with text alone: pictures and sound, prediction of several tokens, and tables that
  // follow from the config.
  constexpr std::string_view parts[] = {"vision_tower", "vision_model", "visual",     "multi_modal_projector",
                                        "audio_tower",  "mtp",          "rotary_emb", "inv_freq"};
  for (std::string_view rest = name; !rest.empty();) {
    const std::size_t dot = rest.find('.');
    const std::string_view segment = rest.substr(0, dot);
    for (const std::string_view part : parts)
      if (segment == part) return true;
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  return false;
}

std::optional<std::string> canonical_name(std::string_view name) {
  if (unused_tensor(name)) return std::nullopt;
  const auto renamed = [&](std::string_view prefix, std::string_view replacement) {
    return std::string(replacement).append(name.substr(prefix.size()));
  };
  if (starts_with(name, "model.language_model.")) return renamed("model.language_model.", "language_model.model.");
  if (starts_with(name, "model.")) return renamed("model.", "language_model.model.");
  if (name == "lm_head" || starts_with(name, "lm_head.")) return renamed("", "language_model.");
  return std::string(name);
}

bool plain_file_name(std::string_view name) {
  if (name.empty() || name == "." || name == ".." || name.size() > 255) return false;
  for (const char c : name)
    if (c == '/' || c == '\\' || unprintable(c)) return false;
  return true;
}

std::string shown(std::string_view name) {
  constexpr std::size_t longest = 160;
  if (name.size() <= longest) return printable(name, Keep::nothing);
  std::size_t cut = longest;
  while (cut > 0 && (static_cast<unsigned char>(name[cut]) & 0xc0u) == 0x80) --cut;  // not inside a character
  return printable(name.substr(0, cut), Keep::nothing) + "...";
}

}  // namespace tqkv
