#include "cache/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "tqkv/cache_report.h"
#include "tqkv/error.h"
#include "tqkv/kv_format.h"

namespace tqkv {

std::string_view name(StateType type) {
  return type == StateType::f32 ? "f32" : "bf16";
}

}  // namespace tqkv

namespace tqkv::cache {
namespace {

using Keys = std::vector<std::pair<std::string, std::string>>;

// "name:key=value:…" in pieces.
Keys keys_of(std::string_view format) {
  Keys keys;
  std::size_t at = format.find(':');
  while (at != std::string_view::npos) {
    const std::size_t end = format.find(':', at + 1);
    const std::string_view piece = format.substr(at + 1, end == std::string_view::npos ? end : end - at - 1);
    const std::size_t equals = piece.find('=');
    keys.emplace_back(piece.substr(0, equals), equals == std::string_view::npos ? "" : piece.substr(equals + 1));
    at = end;
  }
  return keys;
}

const std::string* value_of(const Keys& keys, std::string_view key) {
  for (const auto& [name, value] : keys) {
    if (name == key) return &value;
  }
  return nullptr;
}

bool differs(const Keys& one, const Keys& other, std::string_view key) {
  const std::string *a = value_of(one, key), *b = value_of(other, key);
  return (a == nullptr) != (b == nullptr) || (a != nullptr && *a != *b);
}

std::optional<KvFormat> parsed(const std::string& format) {
  try {
    return KvFormat::parse(format);
  } catch (const Error&) {
    return std::nullopt;  // of another version, or of a file that says anything
  }
}

struct Described {
  Keys own, usual;  // usual: of the backend with these bits and nothing else said
  bool usual_bits = false;
};

Described described(const std::string& text) {
  const std::optional<KvFormat> format = parsed(text);
  if (!format) return {keys_of(text), {}, false};
  Described result{keys_of(format->canonical()), {}, false};
  if (format->backend == Backend::baseline) {  // f32 precision alone has another one
    result.usual = result.own;
    return result;
  }
  const KvFormat usual = KvFormat::of(format->backend);
  result.usual_bits = format->k.bits == usual.k.bits && format->v.bits == usual.v.bits;
  const std::string sides = fmt::format("{}:k={}:v={}", name(format->backend), format->k.bits, format->v.bits);
  const std::string values = format->values == format->backend ? "" : fmt::format(":values={}", name(format->values));
  result.usual = keys_of(KvFormat::parse(sides + values).canonical());
  std::erase_if(result.usual, [](const auto& key) { return key.first == "values"; });
  return result;
}

// What the name of `own` says beyond its backend, when `others` are all formats of that backend.
std::string distinction(const Described& own, const std::vector<Described>& others) {
  const auto tells = [&](std::string_view key) {
    return std::any_of(others.begin(), others.end(),
                       [&](const Described& other) { return differs(own.own, other.own, key); });
  };
  std::string text;
  const std::string *k = value_of(own.own, "k"), *v = value_of(own.own, "v"), *mean = value_of(own.own, "mean");
  const bool sides = k != nullptr && v != nullptr && (!own.usual_bits || tells("k") || tells("v"));
  if (sides) text += " " + (*k == *v ? *k : *k + "/" + *v);
  for (const auto& [key, value] : own.own) {
    if (k != nullptr && v != nullptr && (key == "k" || key == "v")) continue;
    if (key == "sink" && mean != nullptr && *mean == value) continue;  // the mean implies it
    if (!differs(own.own, own.usual, key) && !tells(key)) continue;
    text += key == "bits" ? " " + value : fmt::format(" {}{}{}", key, value.empty() ? "" : "=", value);
  }
  return text;
}

bool is_default(const std::string& format) {
  static const std::string usual = KvFormat::usual().canonical(), in_f32 = KvFormat::usual().in_f32().canonical();
  return format == usual || format == in_f32;
}

}  // namespace

std::string backend_of(std::string_view format) {
  return std::string(format.substr(0, format.find(':')));
}

std::map<std::string, std::string> short_names(const std::vector<std::string>& formats) {
  std::map<std::string, std::vector<Described>> backends;
  const std::set<std::string> distinct(formats.begin(), formats.end());
  for (const std::string& format : distinct)
    if (!is_default(format)) backends[backend_of(format)].push_back(described(format));
  std::map<std::string, std::string> names;
  std::map<std::string, int> uses;
  for (const std::string& format : distinct) {
    const std::string backend = backend_of(format);
    names[format] = is_default(format) ? "default" : backend + distinction(described(format), backends[backend]);
    ++uses[names[format]];
  }
  for (auto& [format, name] : names) {
    if (uses[name] > 1) name = format;
  }
  return names;
}

}  // namespace tqkv::cache
