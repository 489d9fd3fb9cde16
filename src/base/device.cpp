#include "tqkv/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/printable.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

constexpr std::size_t longest_text = 256;

[[noreturn]] void refuse(std::string_view text, std::string_view problem) {
  throw Error(ErrorKind::usage,
              fmt::format("device `{}`: {}", printable(text.substr(0, longest_text), Keep::nothing), problem));
}

bool is_word(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

}  // namespace

Device Device::parse(std::string_view text) {
  if (text.size() > longest_text) refuse(text, fmt::format("has more than {} characters", longest_text));
  Device device;
  const std::size_t end = std::min(text.find(':'), text.size());
  device.name = text.substr(0, end);
  if (!is_word(device.name)) refuse(text, "a name was expected, as in cpu or cpu:threads=2");
  for (std::size_t at = end; at < text.size();) {
    const std::size_t next = std::min(text.find(':', at + 1), text.size());
    const std::string_view piece = text.substr(at + 1, next - at - 1);
    if (const auto index = number(piece); index && at == end) {
      device.index = index;
    } else {
      const std::size_t equals = std::min(piece.find('='), piece.size());
      const std::string_view key = piece.substr(0, equals), value = piece.substr(std::min(equals + 1, piece.size()));
      if (!is_word(key) || !is_word(value))
        refuse(text, fmt::format("'{}' is no KEY=VALUE, as in cpu:threads=2", printable(piece, Keep::nothing)));
      if (!device.keys.emplace(key, value).second) refuse(text, fmt::format("'{}' is there twice", key));
    }
    at = next;
  }
  return device;
}

std::string Device::canonical() const {
  std::string text = name;
  if (index) text += fmt::format(":{}", *index);
  for (const auto& [key, value] : keys) text += fmt::format(":{}={}", key, value);
  return text;
}

std::string_view Device::value(std::string_view key) const {
  const auto found = keys.find(key);
  return found == keys.end() ? std::string_view{} : found->second;
}

std::string_view name(Precision precision) {
  return precision == Precision::fast ? "fast" : "f32";
}

std::string DeviceReport::text() const {
  std::string text;
  for (const auto& [name, value] : values) text += value + ", ";
  return text + device.canonical();
}

}  // namespace tqkv
