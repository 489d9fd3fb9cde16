// The character type of UTF-8 for libraries that ask the locale what a character is: numbers and messages stay as they
// are, and so does what LANG says.
#pragma once
#include <locale.h>
#if defined(__APPLE__)
#include <xlocale.h>
#endif

namespace tqkv::cli {

/// The first locale of UTF-8 that is installed, of this program's environment where it is one; null where there is
/// none. Never freed.
locale_t utf8_character_type();

/// Sets the character type of this thread until the end of the scope.
class WithCharacterType {
 public:
  explicit WithCharacterType(locale_t type) : before_(::uselocale(type)) {}
  ~WithCharacterType() { ::uselocale(before_); }
  WithCharacterType(const WithCharacterType&) = delete;
  WithCharacterType& operator=(const WithCharacterType&) = delete;

 private:
  locale_t before_;
};

}  // namespace tqkv::cli
