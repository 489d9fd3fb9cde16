#include "tqkv/kv_format.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cache/backends.h"
#include "codec/trellis/levels.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

using cache::BackendRules;
using cache::Settings;

constexpr std::array<KvScalar, 4> scalars{KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best};
constexpr int most_plain_tokens = 1 << 20;

// Keys of `entry` in the order in which messages name them.
std::vector<std::string_view> keys_of(Backend backend) {
  const BackendRules& rules = cache::rules(backend);
  std::vector<std::string_view> keys;
  if (!rules.bits.empty() && backend != Backend::baseline) keys.emplace_back("bits");
  keys.insert(keys.end(), rules.keys.begin(), rules.keys.end());
  if (backend != Backend::baseline)
    keys.insert(keys.end(), std::begin(cache::option_keys), std::end(cache::option_keys));
  return keys;
}

// Keys that may be set for several entries at once: not what an entry of plain bf16 or a table version is.
bool has_shared_key(Backend backend, std::string_view key) {
  return backend != Backend::baseline && key != "table" && cache::rules(backend).has(key);
}

SideFormat plain(int bits) {
  SideFormat side;
  side.bits = bits;
  return side;
}

SideFormat affine_8() {
  SideFormat side;
  side.kind = SideFormat::Kind::affine;
  side.bits = 8;
  side.group = 64;
  return side;
}

bool is_plain(const SideFormat& side) {
  return side.kind == SideFormat::Kind::plain;
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
  if (!cache::rules(backend).has(key))
    refuse(text, fmt::format("{} has no key `{}`, it has {}", name(backend), key, fmt::join(keys_of(backend), ", ")));
}

Entry split(std::string_view text) {
  Entry entry;
  entry.text = text;
  std::size_t end = std::min(text.find(':'), text.size());
  const std::string_view backend = text.substr(0, end);
  const auto all = cache::all_rules();
  const auto known = std::find_if(all.begin(), all.end(), [&](const BackendRules& b) { return b.name == backend; });
  if (known == all.end()) {
    std::vector<std::string_view> names;
    names.reserve(all.size());
    for (const auto& b : all) names.push_back(b.name);
    refuse(text, fmt::format("there is no backend `{}`, there are {}", backend, fmt::join(names, ", ")));
  }
  entry.backend = known->backend;
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

// Bits of a side that `k` or `v` takes; 16 leaves it plain, 32 is what 16 becomes under f32 precision.
std::vector<int> side_bits(std::vector<int> bits) {
  bits.insert(bits.end(), {16, 32});
  return bits;
}

void set_bits(const Entry& entry, const BackendRules& rules, Settings& settings) {
  const auto k_text = entry.value("k"), v_text = entry.value("v");
  if (const auto bits = entry.value("bits")) {
    if (k_text && v_text)
      refuse(entry.text, fmt::format("bits={} has no effect where both k and v are given: leave it out", *bits));
    if (std::find(rules.bits.begin(), rules.bits.end(), *bits) == rules.bits.end())
      refuse_value(entry, "bits", *bits, fmt::format("{}", fmt::join(rules.bits, ", ")));
    settings.v.bits = *number<int>(bits->substr(0, bits->find('.')));
    settings.k.bits = settings.v.bits + (bits->ends_with(".5") ? 1 : 0);
  }
  if (k_text) settings.k.bits = chosen(entry, "k", *k_text, side_bits(rules.k_bits));
  if (v_text) settings.v.bits = chosen(entry, "v", *v_text, side_bits(rules.v_bits));
  const int k = settings.k.bits, v = settings.v.bits;
  if (k >= 16 && v >= 16)
    refuse(entry.text, fmt::format("k={} and v={} leave nothing to compress: ask for baseline", k, v));
}

// One value for both sides, or two as K/V; `set` takes each with its side.
template <class Set>
void for_sides(const Entry& entry, std::string_view key, const Settings& settings, const Set& set) {
  const auto text = entry.value(key);
  if (!text) return;
  const std::size_t slash = text->find('/');
  if (slash == std::string_view::npos) {
    set(*text, true, false);
    set(*text, false, false);
    return;
  }
  if (settings.k.bits >= 16 || settings.v.bits >= 16)
    refuse(entry.text,
           fmt::format("{}={} names one for keys and one for values, but one side is plain: name one", key, *text));
  set(text->substr(0, slash), true, true);
  set(text->substr(slash + 1), false, true);
}

void set_scalars(const Entry& entry, Settings& settings) {
  for_sides(entry, "scalar", settings, [&](std::string_view text, bool keys, bool) {
    for (const KvScalar scalar : scalars) {
      if (name(scalar) != text) continue;
      (keys ? settings.k : settings.v).scalar = scalar;
      return;
    }
    refuse_value(entry, "scalar", *entry.value("scalar"),
                 "norm, corrected, unbiased, best, or two of them as K/V, for instance norm/best");
  });
}

void set_groups(const Entry& entry, const BackendRules& rules, Settings& settings) {
  for_sides(entry, "group", settings, [&](std::string_view text, bool keys, bool) {
    (keys ? settings.k : settings.v).group = chosen(entry, "group", text, rules.groups);
  });
}

void set_states(const Entry& entry, Settings& settings) {
  for_sides(entry, "states", settings, [&](std::string_view text, bool keys, bool) {
    Settings::Side& side = keys ? settings.k : settings.v;
    if (side.bits >= 16) return;
    const auto choices = codec::trellis_states(side.bits);
    const auto states = number<int>(text);
    if (!states || std::find(choices.begin(), choices.end(), *states) == choices.end())
      refuse(entry.text, fmt::format("states={} is not a value of {} with {} bits, there are {}", text,
                                     name(entry.backend), side.bits, fmt::join(choices, ", ")));
    side.states = *states;
  });
}

int tokens_of(const Entry& entry, std::string_view key) {
  const auto text = entry.value(key);
  if (!text) return 0;
  const auto value = number<int>(*text);
  if (!value || *value < 0 || *value > most_plain_tokens)
    refuse_value(entry, key, *text, fmt::format("the whole numbers from 0 to {}", most_plain_tokens));
  return *value;
}

// "2", "2/16" or "2/8": layers at each end, and the bits of their sides.
void set_boundary(const Entry& entry, KvFormat& format) {
  const auto text = entry.value("boundary");
  if (!text) return;
  const std::size_t slash = std::min(text->find('/'), text->size());
  const auto layers = number<int>(text->substr(0, slash));
  const std::string_view bits = slash < text->size() ? text->substr(slash + 1) : std::string_view("16");
  if (!layers || *layers < 0 || *layers > 1024 || (bits != "8" && bits != "16"))
    refuse_value(entry, "boundary", *text, "N or N/16 for bf16, N/8 for affine of 8 bits, N the layers at each end");
  format.boundary = *layers;
  if (*layers > 0 && bits == "8") format.edge = affine_8();
}

KvFormat understand(const Entry& entry) {
  KvFormat format;
  format.backend = entry.backend;
  const BackendRules& rules = cache::rules(entry.backend);
  if (entry.backend == Backend::baseline) {
    const auto bits = entry.value("bits");
    format.k = format.v = plain(bits ? chosen(entry, "bits", *bits, {16, 32}) : 16);
    return format;
  }
  Settings settings = rules.defaults;
  if (const auto text = entry.value("split")) settings.split = chosen(entry, "split", *text, {0, 1}) == 1;
  set_bits(entry, rules, settings);
  set_scalars(entry, settings);
  set_groups(entry, rules, settings);
  if (rules.has("states")) set_states(entry, settings);
  if (const auto text = entry.value("rows")) {
    const auto rows = number<int>(*text);
    if (!rows || *rows < 64 || *rows > 1024 || *rows % 64 != 0)
      refuse_value(entry, "rows", *text, "the multiples of 64 up to 1024");
    settings.rows = *rows;
  }
  if (const auto text = entry.value("projection")) {
    if (*text != "gaussian" && *text != "orthogonal") refuse_value(entry, "projection", *text, "gaussian, orthogonal");
    settings.projection = *text == "gaussian" ? Projection::gaussian : Projection::orthogonal;
  }
  const int k = settings.k.bits, v = settings.v.bits;
  if (settings.split && ((k < 16 && k > 4) || (v < 16 && v > 4)))
    refuse(entry.text, "split gives a quarter of the channels one bit more: k and v of 2, 3 or 4 bits");
  if (entry.backend == Backend::qjl && k >= 16)
    refuse(entry.text, "qjl without its keys is affine values alone: ask for mlx_quant");
  if (entry.backend == Backend::sketch && k >= 16)
    refuse(entry.text, "sketch without its keys is affine values alone: ask for mlx_quant");
  format.k = k >= 16 ? plain(k) : rules.k_side(settings);
  format.v = v >= 16 ? plain(v) : rules.v_side(settings);
  if (const auto table = entry.value("table"))
    chosen(entry, "table", *table, {entry.backend == Backend::trellis ? trellis_version : codebook_version});
  if (const auto seed = entry.value("seed")) {
    const auto value = number<std::uint64_t>(*seed);
    if (!value) refuse_value(entry, "seed", *seed, "the whole numbers from 0 to 18446744073709551615");
    format.seed = *value;
  }
  format.window = tokens_of(entry, "window");
  format.sink = tokens_of(entry, "sink");
  set_boundary(entry, format);
  return format;
}

void set_key(Entry& entry, const std::string& key, const std::string& value) {
  const auto refuse_use = [&](const std::string& problem) {
    throw Error(ErrorKind::usage, fmt::format("cache format `{}`: {}", entry.text, problem));
  };
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
  return cache::rules(backend).name;
}

std::span<const Backend> all_backends() {
  static const std::vector<Backend> all = [] {
    std::vector<Backend> backends;
    for (const BackendRules& rules : cache::all_rules()) backends.push_back(rules.backend);
    return backends;
  }();
  return all;
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
  std::string text(name(backend));
  // One value when both sides have the same or only one has it.
  const auto both = [&](std::string_view key, const auto& k_value, const auto& v_value, bool k_has, bool v_has) {
    if (!k_has && !v_has) return;
    if (!k_has || !v_has || k_value == v_value)
      text += fmt::format(":{}={}", key, k_has ? k_value : v_value);
    else
      text += fmt::format(":{}={}/{}", key, k_value, v_value);
  };
  const bool k_coded = !is_plain(k), v_coded = !is_plain(v);
  for (const std::string_view key : cache::rules(backend).keys) {
    if (key == "k") text += fmt::format(":k={}", k.bits);
    if (key == "v") text += fmt::format(":v={}", v.bits);
    if (key == "group") both(key, k.group, v.group, k_coded && k.group != 0, v_coded && v.group != 0);
    if (key == "scalar") both(key, name(k.scalar), name(v.scalar), k_coded, v_coded);
    if (key == "states") both(key, k.states, v.states, k_coded, v_coded);
    if (key == "split" && (k.kind == SideFormat::Kind::split || v.kind == SideFormat::Kind::split)) text += ":split=1";
    if (key == "rows") text += fmt::format(":rows={}", k.rows);
    if (key == "projection") text += fmt::format(":projection={}", name(k_coded ? k.projection : v.projection));
    if (key == "seed") text += fmt::format(":seed={}", seed);
    if (key == "table")
      text += fmt::format(":table={}", backend == Backend::trellis ? trellis_version : codebook_version);
  }
  if (window > 0) text += fmt::format(":window={}", window);
  if (sink > 0) text += fmt::format(":sink={}", sink);
  if (boundary > 0) text += fmt::format(":boundary={}/{}", boundary, edge.bits);
  return text;
}

KvFormat::Sides KvFormat::sides(int index, int layers) const {
  if (boundary > 0 && (index < boundary || index >= layers - boundary)) return {edge, edge};
  return {k, v};
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
