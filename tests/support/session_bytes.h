// Session files in memory, changed and made good again: the checksums of a file that somebody made on purpose are
// right.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "base/checksum.h"
#include "loaders/safetensors.h"

namespace tqkv::test {

inline std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

/// Puts the right checksums where `file` has room for them; leaves it alone where it is no safetensors file.
inline void make_good(std::string& file) {
  try {
    const SafetensorsFile parsed = parse_safetensors_file(bytes_of(file), "file", ErrorKind::session);
    std::size_t at = 0, end = 0;
    for (const SafetensorsEntry& entry : parsed.entries) {
      if (entry.name == "checksums") at = entry.begin, end = entry.end;
    }
    const auto put = [&](std::uint64_t value) {
      if (at + sizeof value > end) return;
      std::memcpy(file.data() + at, &value, sizeof value);
      at += sizeof value;
    };
    put(checksum(bytes_of(file).first(parsed.data)));
    for (const SafetensorsEntry& entry : parsed.entries) {  // in the order of their bytes
      if (entry.name != "checksums") put(checksum(bytes_of(file).subspan(entry.begin, entry.end - entry.begin)));
    }
  } catch (const Error&) {
  }
}

/// `file` with its header changed by edit(header) and its data as it was.
template <class Edit>
std::string with_header(const std::string& file, const Edit& edit) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  auto header = nlohmann::ordered_json::parse(file.substr(8, length));
  edit(header);
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string changed(8, '\0');
  length = text.size();
  std::memcpy(changed.data(), &length, sizeof length);
  changed += text;
  std::memcpy(&length, file.data(), sizeof length);
  changed += file.substr(8 + length);
  make_good(changed);
  return changed;
}

/// `file` with bytes of one tensor replaced from byte `at` of it on.
inline std::string with_bytes(std::string file, const std::string& tensor, std::size_t at, const std::string& bytes) {
  for (const SafetensorsEntry& entry : parse_safetensors_file(bytes_of(file), "file", ErrorKind::session).entries) {
    if (entry.name == tensor) file.replace(entry.begin + at, bytes.size(), bytes);
  }
  make_good(file);
  return file;
}

}  // namespace tqkv::test
