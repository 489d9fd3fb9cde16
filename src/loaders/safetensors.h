// The safetensors format: u64 little-endian header length, a JSON header, the data. Everything is checked here; nothing
// behind this parser checks an offset again.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tqkv/checkpoint.h"
#include "tqkv/error.h"

namespace tqkv {

struct SafetensorsEntry {
  std::string name;  // as in the file
  DType dtype = DType::u8;
  std::vector<std::int64_t> shape;
  std::size_t begin = 0, end = 0;  // bytes from the start of the file; end - begin == product of shape * size_of(dtype)
};

/// Entries in the order of their data. They lie inside `file` and do not overlap; gaps between them and odd offsets are
/// accepted. `where` starts every message. Throws Error(checkpoint).
std::vector<SafetensorsEntry> parse_safetensors(std::span<const std::byte> file, std::string_view where);

/// A file that is no part of a checkpoint, whole: its entries, its metadata and where its data starts.
struct SafetensorsFile {
  std::vector<SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
  std::size_t data = 0;  // bytes from the start of the file
};
/// The same checks; metadata that are not strings are refused too. Throws Error(kind).
SafetensorsFile parse_safetensors_file(std::span<const std::byte> file, std::string_view where, ErrorKind kind);

struct NamedShape {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
};
/// Length and header of a file that holds `tensors` one behind the other, padded so that the data starts at a multiple
/// of 8.
std::string safetensors_header(std::span<const NamedShape> tensors, const std::map<std::string, std::string>& metadata);

/// The longest header that is read, in bytes (as the reference implementation).
inline constexpr std::uint64_t longest_safetensors_header = 100'000'000;

}  // namespace tqkv
