#include "tqkv/kv_format.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tqkv/error.h"

namespace tqkv {
namespace {

constexpr int group_size = 64;

constexpr std::array<std::pair<std::string_view, Backend>, 4> backends{{{"baseline", Backend::baseline},
                                                                        {"mlx_quant", Backend::mlx_quant},
                                                                        {"turboquant", Backend::turboquant},
                                                                        {"rotated_quant", Backend::rotated_quant}}};

constexpr std::array<KvScalar, 4> scalars{KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best};

// Keys of formats to come.
constexpr std::array<std::string_view, 5> later_keys{"window", "sink", "boundary", "split", "states"};

// What `bits` means to turboquant: bits of keys, bits of values.
struct Share {
  std::string_view text;
  int k, v;
};
constexpr std::array<Share, 6> shares{
    {{"2", 2, 2}, {"2.5", 3, 2}, {"3", 3, 3}, {"3.5", 4, 3}, {"4", 4, 4}, {"5", 5, 5}}};

std::vector<std::string_view> keys_of(Backend backend) {
  switch (backend) {
    case Backend::baseline:
      return {"bits"};
    case Backend::mlx_quant:
      return {"bits", "k", "v", "group"};
    case Backend::turboquant:
      return {"bits", "k", "v", "scalar", "seed", "table"};
    case Backend::rotated_quant:
      return {"bits", "k", "v", "group", "seed"};
  }
  return {};
}

// Keys that may be set for several entries at once: not what an entry of plain bf16 or a table version is.
bool has_shared_key(Backend backend, std::string_view key) {
  const auto keys = keys_of(backend);
  return backend != Backend::baseline && key != "table" && std::find(keys.begin(), keys.end(), key) != keys.end();
}

// Bits of a side that k and v take; 16 leaves it plain, 32 is what 16 becomes under f32 precision.
std::vector<int> side_bits(Backend backend) {
  if (backend == Backend::turboquant) return {2, 3, 4, 5, 16, 32};
  return {4, 8, 16, 32};
}

SideFormat plain(int bits) {
  SideFormat side;
  side.bits = bits;
  return side;
}

SideFormat side(Backend backend, int bits, KvScalar scalar) {
  if (bits >= 16) return plain(bits);
  SideFormat format;
  format.bits = bits;
  if (backend == Backend::turboquant) {
    format.kind = SideFormat::Kind::turboquant;
    format.scalar = scalar;
  } else {
    format.kind = backend == Backend::mlx_quant ? SideFormat::Kind::affine : SideFormat::Kind::rotated_affine;
    format.group = group_size;
  }
  return format;
}

[[noreturn]] void refuse(std::string_view text, std::string_view problem) {
  throw Error(ErrorKind::format, fmt::format("cache format `{}`: {}", text, problem));
}

template <class Number>
std::optional<Number> number(std::string_view text) {
  Number value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

using Keys = std::map<std::string, std::string, std::less<>>;

// An entry split into its name and keys, before they are understood.
struct Entry {
  std::string text;
  Backend backend = Backend::baseline;
  Keys keys;

  std::optional<std::string_view> value(std::string_view key) const {
    const auto found = keys.find(key);
    if (found == keys.end()) return std::nullopt;
    return std::string_view(found->second);
  }
};

void check_key(std::string_view text, Backend backend, std::string_view key) {
  if (std::find(later_keys.begin(), later_keys.end(), key) != later_keys.end())
    refuse(text, fmt::format("the key `{}` is not available in this version", key));
  const auto known = keys_of(backend);
  if (std::find(known.begin(), known.end(), key) == known.end())
    refuse(text, fmt::format("{} has no key `{}`, it has {}", name(backend), key, fmt::join(known, ", ")));
}

Entry split(std::string_view text) {
  Entry entry;
  entry.text = text;
  std::size_t end = std::min(text.find(':'), text.size());
  const std::string_view backend = text.substr(0, end);
  const auto known = std::find_if(backends.begin(), backends.end(), [&](const auto& b) { return b.first == backend; });
  if (known == backends.end()) {
    std::vector<std::string_view> names;
    names.reserve(backends.size());
    for (const auto& b : backends) names.push_back(b.first);
    refuse(text, fmt::format("there is no backend `{}`, there are {}", backend, fmt::join(names, ", ")));
  }
  entry.backend = known->second;
  while (end < text.size()) {
    const std::size_t start = end + 1;
    end = std::min(text.find(':', start), text.size());
    const std::string_view part = text.substr(start, end - start);
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos || equals == 0 || equals + 1 == part.size())
      refuse(text, fmt::format("`{}` was found where key=value was expected; {} has the keys {}", part, backend,
                               fmt::join(keys_of(entry.backend), ", ")));
    check_key(text, entry.backend, part.substr(0, equals));
    if (!entry.keys.emplace(part.substr(0, equals), part.substr(equals + 1)).second)
      refuse(text, fmt::format("the key `{}` is given twice", part.substr(0, equals)));
  }
  return entry;
}

[[noreturn]] void refuse_value(const Entry& entry, std::string_view key, std::string_view value,
                               std::string_view expected) {
  refuse(entry.text,
         fmt::format("{}={} is not a value of {}, there are {}", key, value, name(entry.backend), expected));
}

int chosen(const Entry& entry, std::string_view key, std::string_view value, const std::vector<int>& choices) {
  const auto found = number<int>(value);
  if (!found || std::find(choices.begin(), choices.end(), *found) == choices.end())
    refuse_value(entry, key, value, fmt::format("{}", fmt::join(choices, ", ")));
  return *found;
}

std::pair<int, int> bits_of_sides(const Entry& entry) {
  int k = 4, v = 4;
  const auto k_text = entry.value("k"), v_text = entry.value("v");
  if (const auto bits = entry.value("bits")) {
    if (k_text && v_text)
      refuse(entry.text, fmt::format("bits={} has no effect where both k and v are given: leave it out", *bits));
    if (entry.backend == Backend::turboquant) {
      const auto share = std::find_if(shares.begin(), shares.end(), [&](const Share& s) { return s.text == *bits; });
      if (share == shares.end()) {
        std::vector<std::string_view> texts;
        texts.reserve(shares.size());
        for (const Share& s : shares) texts.push_back(s.text);
        refuse_value(entry, "bits", *bits, fmt::format("{}", fmt::join(texts, ", ")));
      }
      k = share->k;
      v = share->v;
    } else {
      k = v = chosen(entry, "bits", *bits, {4, 8});
    }
  }
  if (k_text) k = chosen(entry, "k", *k_text, side_bits(entry.backend));
  if (v_text) v = chosen(entry, "v", *v_text, side_bits(entry.backend));
  if (k >= 16 && v >= 16)
    refuse(entry.text, fmt::format("k={} and v={} leave nothing to compress: ask for baseline", k, v));
  if ((k == 16 && v == 32) || (k == 32 && v == 16)) refuse(entry.text, "one plain side in 16 and one in 32 bits");
  return {k, v};
}

KvScalar scalar_named(const Entry& entry, std::string_view whole, std::string_view text) {
  for (const KvScalar scalar : scalars) {
    if (name(scalar) == text) return scalar;
  }
  refuse_value(entry, "scalar", whole,
               "norm, corrected, unbiased, best, or two of them as K/V, for instance norm/best");
}

std::pair<KvScalar, KvScalar> scalars_of_sides(const Entry& entry, int k, int v) {
  const auto text = entry.value("scalar");
  if (!text) return {default_scalar, default_scalar};
  const std::size_t slash = text->find('/');
  if (slash == std::string_view::npos) {
    const KvScalar both = scalar_named(entry, *text, *text);
    return {both, both};
  }
  if (k >= 16 || v >= 16)
    refuse(entry.text,
           fmt::format("scalar={} names one for keys and one for values, but one side is plain: name one", *text));
  return {scalar_named(entry, *text, text->substr(0, slash)), scalar_named(entry, *text, text->substr(slash + 1))};
}

KvFormat understand(const Entry& entry) {
  KvFormat format;
  format.backend = entry.backend;
  if (entry.backend == Backend::baseline) {
    const auto bits = entry.value("bits");
    format.k = format.v = plain(bits ? chosen(entry, "bits", *bits, {16, 32}) : 16);
    return format;
  }
  const auto [k, v] = bits_of_sides(entry);
  const auto [k_scalar, v_scalar] = scalars_of_sides(entry, k, v);
  format.k = side(entry.backend, k, k_scalar);
  format.v = side(entry.backend, v, v_scalar);
  if (const auto group = entry.value("group")) chosen(entry, "group", *group, {group_size});
  if (const auto table = entry.value("table")) chosen(entry, "table", *table, {codebook_version});
  if (const auto seed = entry.value("seed")) {
    const auto value = number<std::uint64_t>(*seed);
    if (!value) refuse_value(entry, "seed", *seed, "the whole numbers from 0 to 18446744073709551615");
    format.seed = *value;
  }
  return format;
}

void set_key(Entry& entry, const std::string& key, const std::string& value) {
  const auto refuse_use = [&](const std::string& problem) {
    throw Error(ErrorKind::usage, fmt::format("cache format `{}`: {}", entry.text, problem));
  };
  if (std::find(later_keys.begin(), later_keys.end(), key) != later_keys.end())
    check_key(entry.text, entry.backend, key);
  if (!has_shared_key(entry.backend, key))
    refuse_use(
        fmt::format("{} has no key `{}`, which an option sets to {} for every format: set it in those that have it",
                    name(entry.backend), key, value));
  if (value.empty()) refuse_use(fmt::format("an option sets the key `{}` to nothing", key));
  const auto [place, added] = entry.keys.emplace(key, value);
  if (!added && place->second != value)
    refuse_use(fmt::format("it has {}={}, and an option sets {}={}: give one of them", key, place->second, key, value));
  if (added) entry.text += fmt::format(":{}={}", key, value);
}

}  // namespace

std::string_view name(Backend backend) {
  for (const auto& [text, value] : backends) {
    if (value == backend) return text;
  }
  return "unknown";
}

KvFormat KvFormat::of(Backend backend) {
  Entry entry;
  entry.text = name(backend);
  entry.backend = backend;
  return understand(entry);
}

KvFormat KvFormat::parse(std::string_view text) {
  return understand(split(text));
}

std::string KvFormat::canonical() const {
  if (backend == Backend::baseline) return fmt::format("baseline:bits={}", k.bits);
  std::string text = fmt::format("{}:k={}:v={}", name(backend), k.bits, v.bits);
  if (backend == Backend::turboquant) {
    const bool k_plain = k.kind == SideFormat::Kind::plain, v_plain = v.kind == SideFormat::Kind::plain;
    if (k_plain || v_plain || k.scalar == v.scalar)
      text += fmt::format(":scalar={}", name(k_plain ? v.scalar : k.scalar));
    else
      text += fmt::format(":scalar={}/{}", name(k.scalar), name(v.scalar));
  } else {
    text += fmt::format(":group={}", group_size);
  }
  if (backend != Backend::mlx_quant) text += fmt::format(":seed={}", seed);
  if (backend == Backend::turboquant) text += fmt::format(":table={}", codebook_version);
  return text;
}

KvFormat KvFormat::in_f32() const {
  KvFormat format = *this;
  for (SideFormat* s : {&format.k, &format.v}) {
    if (s->kind == SideFormat::Kind::plain) s->bits = 32;
  }
  return format;
}

std::vector<KvFormat> parse_formats(std::string_view list, const std::map<std::string, std::string>& keys) {
  std::vector<KvFormat> formats;
  for (std::size_t start = 0; start <= list.size();) {
    const std::size_t end = std::min(list.find(',', start), list.size());
    if (end == start)
      throw Error(ErrorKind::usage, fmt::format("cache formats `{}`: an entry is empty, a backend was expected", list));
    Entry entry = split(list.substr(start, end - start));
    for (const auto& [key, value] : keys) set_key(entry, key, value);
    formats.push_back(understand(entry));
    start = end + 1;
  }
  return formats;
}

}  // namespace tqkv
