#include "loaders/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "loaders/json.h"
#include "loaders/tensor_names.h"

namespace tqkv {
namespace {

using nlohmann::json;

struct DTypeRow {
  std::string_view name;
  std::size_t size;
};
constexpr std::array<DTypeRow, 13> dtypes{{{"BOOL", 1},
                                           {"U8", 1},
                                           {"I8", 1},
                                           {"U16", 2},
                                           {"I16", 2},
                                           {"U32", 4},
                                           {"I32", 4},
                                           {"U64", 8},
                                           {"I64", 8},
                                           {"F16", 2},
                                           {"BF16", 2},
                                           {"F32", 4},
                                           {"F64", 8}}};

std::optional<DType> dtype_of(std::string_view text) {
  for (std::size_t i = 0; i < dtypes.size(); ++i)
    if (dtypes[i].name == text) return static_cast<DType>(i);
  return std::nullopt;
}

/// The file in messages, and the kind of error that it makes.
struct Place {
  std::string_view where;
  ErrorKind kind;
  /// Why a file ends too early.
  std::string_view too_short() const {
    return kind == ErrorKind::checkpoint ? "the download is incomplete" : "it was cut short";
  }
};

[[noreturn]] void fail(const Place& place, const std::string& what) {
  throw Error(place.kind, fmt::format("{}: {}", place.where, what));
}

std::uint64_t little_endian_u64(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 8; ++i) value |= std::uint64_t{std::to_integer<std::uint8_t>(bytes[i])} << (8 * i);
  return value;
}

SafetensorsEntry entry_of(const std::string& name, const json& value, std::uint64_t data, std::uint64_t file_size,
                          const Place& place) {
  const std::string tensor = "tensor " + shown(name);
  if (!value.is_object())
    fail(place, fmt::format("{} is described by {}, expected an object", tensor, value.type_name()));
  const auto dtype_field = value.find("dtype"), shape_field = value.find("shape"), offsets = value.find("data_offsets");
  if (dtype_field == value.end() || shape_field == value.end() || offsets == value.end() || value.size() != 3)
    fail(place, tensor + " must have dtype, shape and data_offsets, and nothing else");

  SafetensorsEntry entry;
  entry.name = name;
  if (!dtype_field->is_string()) fail(place, tensor + ": dtype is not a string");
  const auto dtype = dtype_of(dtype_field->get_ref<const std::string&>());
  if (!dtype)
    fail(place, fmt::format("{} has the dtype {}, which tqkv does not read", tensor,
                            shown(dtype_field->get_ref<const std::string&>())));
  entry.dtype = *dtype;

  if (!shape_field->is_array() || shape_field->size() > 8)
    fail(place, tensor + ": shape is not a list of at most 8 sizes");
  std::uint64_t bytes = size_of(entry.dtype);
  for (const json& size : *shape_field) {
    if (!size.is_number_unsigned()) fail(place, tensor + ": shape has an entry that is not a size");
    const auto extent = size.get<std::uint64_t>();
    if (extent > std::uint64_t{1} << 48 || (extent != 0 && bytes > (std::uint64_t{1} << 62) / extent))
      fail(place, fmt::format("{}: the shape {} is larger than any file", tensor, shape_field->dump()));
    bytes *= extent;
    entry.shape.push_back(static_cast<std::int64_t>(extent));
  }

  if (!offsets->is_array() || offsets->size() != 2 || !(*offsets)[0].is_number_unsigned() ||
      !(*offsets)[1].is_number_unsigned())
    fail(place, tensor + ": data_offsets is not a pair of offsets");
  const auto begin = (*offsets)[0].get<std::uint64_t>(), end = (*offsets)[1].get<std::uint64_t>();
  if (begin > end) fail(place, fmt::format("{}: data_offsets go backwards, from {} to {}", tensor, begin, end));
  if (end - begin != bytes)
    fail(place, fmt::format("{} has {} bytes of data, but {} of shape {} takes {}", tensor, end - begin,
                            tqkv::name(entry.dtype), shape_field->dump(), bytes));
  if (end > file_size - data)
    fail(place, fmt::format("{} ends at byte {} but the file has {}: {}", tensor,
                            end > std::numeric_limits<std::uint64_t>::max() - data ? end : data + end, file_size,
                            place.too_short()));
  entry.begin = static_cast<std::size_t>(data + begin);
  entry.end = static_cast<std::size_t>(data + end);
  return entry;
}

}  // namespace

std::string_view name(DType dtype) {
  return dtypes[static_cast<std::size_t>(dtype)].name;
}

std::size_t size_of(DType dtype) {
  return dtypes[static_cast<std::size_t>(dtype)].size;
}

namespace {

/// Length and text of the header, parsed; all of its bytes lie in the file.
struct Header {
  std::uint64_t length;
  json fields;
};

Header header_of(std::span<const std::byte> file, const Place& place) {
  constexpr std::string_view pointer = "version https://git-lfs";
  if (file.size() >= pointer.size() && std::memcmp(file.data(), pointer.data(), pointer.size()) == 0)
    fail(place, "is a Git LFS pointer and not the weights: fetch them with git lfs pull");
  if (file.size() < 8)
    fail(place, fmt::format("has {} bytes, a safetensors file starts with 8 bytes of header length: {}", file.size(),
                            place.too_short()));
  const std::uint64_t length = little_endian_u64(file.first(8));
  if (length > file.size() - 8)
    fail(place,
         fmt::format("the header is said to have {} bytes but the file has {}: it is incomplete or no safetensors file",
                     length, file.size()));
  if (length > longest_safetensors_header)
    fail(place, fmt::format("the header has {} bytes, more than the {} that a safetensors header may have", length,
                            longest_safetensors_header));
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, static_cast<std::size_t>(length));
  return {length, parse_json(text, fmt::format("{}: the header", place.where), place.kind, 4)};
}

std::vector<SafetensorsEntry> entries_of(const Header& header, std::size_t file_size, const Place& place) {
  std::vector<SafetensorsEntry> entries;
  entries.reserve(header.fields.size());
  for (const auto& [key, value] : header.fields.items())
    if (key != "__metadata__") entries.push_back(entry_of(key, value, 8 + header.length, file_size, place));
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  const SafetensorsEntry* last = nullptr;  // of those with data
  for (const SafetensorsEntry& entry : entries) {
    if (entry.begin == entry.end) continue;
    if (last && entry.begin < last->end)
      fail(place, fmt::format("the data of tensors {} and {} overlap at byte {}", shown(last->name), shown(entry.name),
                              entry.begin));
    last = &entry;
  }
  return entries;
}

std::map<std::string, std::string> metadata_of(const Header& header, const Place& place) {
  std::map<std::string, std::string> metadata;
  const auto found = header.fields.find("__metadata__");
  if (found == header.fields.end()) return metadata;
  if (!found->is_object()) fail(place, "__metadata__ is not an object");
  for (const auto& [key, value] : found->items()) {
    if (!value.is_string()) fail(place, fmt::format("__metadata__: {} is not a string", shown(key)));
    metadata.emplace(key, value.get<std::string>());
  }
  return metadata;
}

}  // namespace

std::vector<SafetensorsEntry> parse_safetensors(std::span<const std::byte> file, std::string_view where) {
  const Place place{where, ErrorKind::checkpoint};
  return entries_of(header_of(file, place), file.size(), place);
}

SafetensorsFile parse_safetensors_file(std::span<const std::byte> file, std::string_view where, ErrorKind kind) {
  const Place place{where, kind};
  const Header header = header_of(file, place);
  return {entries_of(header, file.size(), place), metadata_of(header, place),
          static_cast<std::size_t>(8 + header.length)};
}

std::string safetensors_header(std::span<const NamedShape> tensors,
                               const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = {{"__metadata__", metadata}};
  std::size_t offset = 0;
  for (const NamedShape& tensor : tensors) {
    std::size_t bytes = size_of(tensor.dtype);
    for (const std::int64_t extent : tensor.shape) bytes *= static_cast<std::size_t>(extent);
    header[tensor.name] = {
        {"dtype", name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>((text.size() >> (8 * i)) & 0xff);
  return length + text;
}

}  // namespace tqkv
