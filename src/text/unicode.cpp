#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "text/utf8.h"

namespace tqkv::text {
namespace {

struct Range {
  std::uint32_t first, last;
  std::uint8_t bits;
};

constexpr Range ranges[] = {
#include "text/unicode_table.inc"
};

/// Two stages: pages of 128 code points, equal ones shared.
class Table {
 public:
  Table() {
    std::vector<std::uint8_t> flat(0x110000, 0);
    for (const Range& range : ranges) std::fill(flat.begin() + range.first, flat.begin() + range.last + 1, range.bits);
    for (std::size_t page = 0; page < page_of_.size(); ++page) {
      const auto begin = flat.begin() + static_cast<std::ptrdiff_t>(page * page_size);
      // Neighbours are what is equal in practice: letters, ideographs, nothing.
      const bool same = !bits_.empty() && std::equal(begin, begin + page_size, bits_.end() - page_size);
      if (!same) bits_.insert(bits_.end(), begin, begin + page_size);
      page_of_[page] = static_cast<std::uint16_t>(bits_.size() / page_size - 1);
    }
  }
  std::uint8_t operator[](std::uint32_t c) const { return bits_[page_of_[c / page_size] * page_size + c % page_size]; }

 private:
  static constexpr std::uint32_t page_size = 128;
  std::array<std::uint16_t, 0x110000 / page_size> page_of_{};
  std::vector<std::uint8_t> bits_;
};

const Table& table() {
  static const Table instance;
  return instance;
}

/// NFC of a run that holds nothing but characters Hugging Face normalizes: utf8proc knows them all and agrees. The
/// marks are sorted here because utf8proc's own sort is quadratic.
void compose(std::vector<utf8proc_int32_t>& run, std::string& out) {
  constexpr auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  std::vector<utf8proc_int32_t> apart;
  apart.reserve(run.size() * 2);
  for (const utf8proc_int32_t c : run) {
    std::array<utf8proc_int32_t, 32> parts{};
    int boundary = 0;
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(c, parts.data(), static_cast<utf8proc_ssize_t>(parts.size()), options, &boundary);
    if (count < 1 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
      apart.push_back(c);
    } else {
      apart.insert(apart.end(), parts.begin(), parts.begin() + count);
    }
  }
  const auto combining = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (auto begin = apart.begin(); begin != apart.end();) {
    begin = std::find_if(begin, apart.end(), [&](utf8proc_int32_t c) { return combining(c) != 0; });
    const auto end = std::find_if(begin, apart.end(), [&](utf8proc_int32_t c) { return combining(c) == 0; });
    std::stable_sort(begin, end, [&](utf8proc_int32_t a, utf8proc_int32_t b) { return combining(a) < combining(b); });
    begin = end;
  }
  const utf8proc_ssize_t count =
      utf8proc_normalize_utf32(apart.data(), static_cast<utf8proc_ssize_t>(apart.size()), options);
  for (utf8proc_ssize_t i = 0; i < count; ++i) {
    append_character(out, static_cast<std::uint32_t>(apart[static_cast<std::size_t>(i)]));
  }
  run.clear();
}

}  // namespace

std::uint8_t character_bits(std::uint32_t code_point) {
  return code_point < 0x110000 ? table()[code_point] : 0;
}

bool surely_nfc(std::string_view text) {
  const Table& bits = table();
  for (std::size_t at = 0; at < text.size();) {
    if (static_cast<std::uint8_t>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const Utf8Step step = next_character(text, at);
    if (bits[step.code_point] & nfc_active) return false;
    at += step.length;
  }
  return true;
}

std::string nfc(std::string_view text) {
  const Table& bits = table();
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> run;  // one starter and the active characters behind it
  const auto flush = [&] {
    if (run.size() == 1 && !(bits[static_cast<std::uint32_t>(run[0])] & nfc_active)) {
      append_character(out, static_cast<std::uint32_t>(run[0]));
      run.clear();
    } else if (!run.empty()) {
      compose(run, out);
    }
  };
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = next_character(text, at);
    const std::uint8_t b = bits[step.code_point];
    if (!(b & nfc_active)) flush();
    if (b & (nfc_active | nfc_starts)) {
      run.push_back(static_cast<utf8proc_int32_t>(step.code_point));
    } else {
      out.append(text.substr(at, step.length));
    }
    at += step.length;
  }
  flush();
  return out;
}

std::string stand_ins(std::string_view text) {
  // By class (letter, mark, number, space, anything else) and by bytes (2, 3, 4).
  static constexpr std::string_view letters[] = {"\u00aa", "\u4e00", "\U00020000"};
  static constexpr std::string_view marks[] = {"\u0300", "\u20d0", "\U000e0100"};
  static constexpr std::string_view numbers[] = {"\u00b2", "\u2460", "\U0001d7ce"};
  static constexpr std::string_view spaces[] = {"\u00a0", "\u3000"};  // there is none of four bytes
  static constexpr std::string_view others[] = {"\u00a7", "\u2014", "\U0001f600"};
  const Table& bits = table();
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    if (static_cast<std::uint8_t>(text[at]) < 0x80) {
      out.push_back(text[at++]);
      continue;
    }
    const Utf8Step step = next_character(text, at);
    const std::size_t size = step.length - 2;
    const std::uint8_t b = bits[step.code_point];
    if (step.code_point == 0x17f || step.code_point == 0x212a) {
      out.append(text.substr(at, step.length));
    } else if (b & class_letter) {
      out.append(letters[size]);
    } else if (b & class_mark) {
      out.append(marks[size]);
    } else if (b & class_number) {
      out.append(numbers[size]);
    } else if ((b & class_space) && size < 2) {
      out.append(spaces[size]);
    } else {
      out.append(others[size]);
    }
    at += step.length;
  }
  return out;
}

}  // namespace tqkv::text
