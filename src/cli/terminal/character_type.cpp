#include "cli/terminal/character_type.h"

#include <langinfo.h>

#include <string_view>

namespace tqkv::cli {
namespace {

locale_t find_type() {
  for (const char* name : {"", "C.UTF-8", "C.utf8", "UTF-8", "en_US.UTF-8", "POSIX.UTF-8"}) {
    const locale_t type = ::newlocale(LC_CTYPE_MASK, name, nullptr);
    if (type == nullptr) continue;
    if (const std::string_view codes = ::nl_langinfo_l(CODESET, type); codes == "UTF-8" || codes == "utf8") return type;
    ::freelocale(type);
  }
  return nullptr;
}

}  // namespace

locale_t utf8_character_type() {
  static const locale_t type = find_type();
  return type;
}

}  // namespace tqkv::cli
