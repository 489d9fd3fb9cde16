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
#include "tqkv/kv_format.h"

// From strings to formats: an entry is split into its keys first, and understood when all of them are there.
namespace tqkv {
namespace {

using cache::BackendRules;
using cache::Settings;
using Side = Settings::Side;

constexpr std::array<KvScalar, 4> scalars{KvScalar::norm, KvScalar::corrected, KvScalar::unbiased, KvScalar::best};
constexpr int most_plain_tokens = 1 << 20, most_layers = 1024;

// The default: keys have more bits than values, and a mean and a window keep what is dearest. Values are trellis, keys
// too or, with 5 bits, turboquant.
constexpr std::string_view usual_name = "default";
constexpr std::array<std::string_view, 11> usual_keys{"bits",   "k",    "v",    "scalar",   "states", "seed",
                                                      "window", "sink", "mean", "boundary", "layers"};
constexpr std::array<BackendRules::Bits, 6> usual_bits{
    {{"2", 2, 2}, {"2.5", 3, 2}, {"3", 4, 2}, {"3.5", 4, 3}, {"4", 5, 3}, {"4.5", 5, 4}}};
constexpr std::string_view usual_window = "128", usual_mean = "64";

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

std::vector<std::string_view> parts_of(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(separator, start), text.size());
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

using Keys = std::map<std::string, std::string, std::less<>>;

// An entry split into its name and keys, before they are understood.
struct Entry {
  std::string text;
  Backend backend = Backend::baseline;
  Keys keys;
  bool usual = false;  // "default": which backends it stands for follows from its bits

  bool resolved = false;  // it was

  std::string_view title() const { return usual || resolved ? usual_name : name(backend); }

  std::optional<std::string_view> value(std::string_view key) const {
    const auto found = keys.find(key);
    if (found == keys.end()) return std::nullopt;
    return std::string_view(found->second);
  }
};

// Keys of an entry in the order in which messages name them.
std::vector<std::string_view> keys_of(const Entry& entry) {
  if (entry.usual) return {usual_keys.begin(), usual_keys.end()};
  const BackendRules& rules = cache::rules(entry.backend);
  std::vector<std::string_view> keys;
  if (!rules.bits.empty() && entry.backend != Backend::baseline) keys.emplace_back("bits");
  keys.insert(keys.end(), rules.keys.begin(), rules.keys.end());
  for (const std::string_view key : cache::option_keys)
    if (rules.has(key)) keys.push_back(key);
  return keys;
}

[[noreturn]] void refuse_value(const Entry& entry, std::string_view key, std::string_view value,
                               std::string_view expected) {
  refuse(entry.text, fmt::format("{}={} is not a value of {}, there are {}", key, value, entry.title(), expected));
}

// Of values: the backend that `values` names, or that of keys.
const BackendRules& value_rules(const Entry& entry) {
  const auto named = entry.value("values");
  if (!named) return cache::rules(entry.backend);
  std::vector<std::string_view> names;
  for (const BackendRules& rules : cache::all_rules()) {
    if (!rules.combines) continue;
    if (rules.name == *named) return rules;
    names.push_back(rules.name);
  }
  refuse_value(entry, "values", *named, fmt::format("{}", fmt::join(names, ", ")));
}

bool has_key(const Entry& entry, std::string_view key) {
  if (entry.usual) return std::find(usual_keys.begin(), usual_keys.end(), key) != usual_keys.end();
  return cache::rules(entry.backend).has(key) || (key != "values" && value_rules(entry).has(key));
}

Entry split(std::string_view text) {
  Entry entry;
  entry.text = text;
  const std::vector<std::string_view> parts = parts_of(text, ':');
  const std::string_view backend = parts.front();
  const auto all = cache::all_rules();
  const auto known = std::find_if(all.begin(), all.end(), [&](const BackendRules& b) { return b.name == backend; });
  entry.usual = backend == usual_name;
  if (known == all.end() && !entry.usual) {
    std::vector<std::string_view> names{usual_name};
    for (const auto& b : all) names.push_back(b.name);
    refuse(text, fmt::format("there is no backend `{}`, there are {}", backend, fmt::join(names, ", ")));
  }
  entry.backend = entry.usual ? Backend::turboquant : known->backend;
  for (const std::string_view part : std::span(parts).subspan(1)) {
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos || equals == 0 || equals + 1 == part.size())
      refuse(text, fmt::format("`{}` was found where key=value was expected; {} has the keys {}", part, backend,
                               fmt::join(keys_of(entry), ", ")));
    if (!entry.keys.emplace(part.substr(0, equals), part.substr(equals + 1)).second)
      refuse(text, fmt::format("the key `{}` is given twice", part.substr(0, equals)));
  }
  return entry;
}

void check_keys(const Entry& entry) {
  for (const auto& [key, value] : entry.keys)
    if (!has_key(entry, key))
      refuse(entry.text,
             fmt::format("{} has no key `{}`, it has {}", entry.title(), key, fmt::join(keys_of(entry), ", ")));
}

int chosen(const Entry& entry, std::string_view key, std::string_view value, const std::vector<int>& choices) {
  const auto found = number<int>(value);
  if (!found || std::find(choices.begin(), choices.end(), *found) == choices.end())
    refuse_value(entry, key, value, fmt::format("{}", fmt::join(choices, ", ")));
  return *found;
}

bool contains(const std::vector<int>& values, int value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

// Bits of a side that `k` or `v` takes; 16 leaves it plain, 32 is what 16 becomes under f32 precision.
std::vector<int> side_bits(std::vector<int> bits) {
  bits.insert(bits.end(), {16, 32});
  return bits;
}

// The rules of an entry's two sides, and the settings that its keys add up to.
struct Draft {
  const BackendRules& k_rules;
  const BackendRules& v_rules;
  Settings settings;

  const BackendRules& rules(bool keys) const { return keys ? k_rules : v_rules; }
  Side& side(bool keys) { return keys ? settings.k : settings.v; }
  const Side& side(bool keys) const { return keys ? settings.k : settings.v; }
  bool coded(bool keys) const { return side(keys).bits < 16; }
  SideFormat format(bool keys) const {
    if (!coded(keys)) return plain(side(keys).bits);
    return keys ? k_rules.k_side(settings) : v_rules.v_side(settings);
  }
};

Draft draft_of(const Entry& entry) {
  const BackendRules &k = cache::rules(entry.backend), &v = value_rules(entry);
  Draft draft{k, v, k.defaults};
  draft.settings.v = v.defaults.v;
  return draft;
}

void set_bits(const Entry& entry, Draft& draft) {
  const auto k_text = entry.value("k"), v_text = entry.value("v");
  Settings& settings = draft.settings;
  if (const auto bits = entry.value("bits")) {
    if (k_text && v_text)
      refuse(entry.text, fmt::format("bits={} has no effect where both k and v are given: leave it out", *bits));
    std::vector<std::string_view> names;
    const BackendRules::Bits* found = nullptr;
    for (const BackendRules::Bits& one : draft.k_rules.bits) {
      if (!contains(draft.k_rules.k_bits, one.k) || !contains(draft.v_rules.v_bits, one.v)) continue;
      names.push_back(one.name);
      if (one.name == *bits) found = &one;
    }
    if (!found) refuse_value(entry, "bits", *bits, fmt::format("{}", fmt::join(names, ", ")));
    settings.k.bits = found->k;
    settings.v.bits = found->v;
  }
  if (k_text) settings.k.bits = chosen(entry, "k", *k_text, side_bits(draft.k_rules.k_bits));
  if (v_text) settings.v.bits = chosen(entry, "v", *v_text, side_bits(draft.v_rules.v_bits));
  const int k = settings.k.bits, v = settings.v.bits;
  if (k >= 16 && v >= 16)
    refuse(entry.text, fmt::format("k={} and v={} leave nothing to compress: ask for baseline", k, v));
  if (const auto values = entry.value("values"); values && (k >= 16 || v >= 16))
    refuse(entry.text,
           fmt::format("values={} combines two codecs, and one side is plain: name the backend of the other", *values));
}

// One value for the sides that have the key, or two as K/V; `set` takes each with its side.
template <class Set>
void for_sides(const Entry& entry, std::string_view key, const Draft& draft, const Set& set) {
  const auto text = entry.value(key);
  if (!text) return;
  const auto has = [&](bool keys) { return draft.rules(keys).has(key); };
  const std::size_t slash = text->find('/');
  if (slash == std::string_view::npos) {
    for (const bool keys : {true, false})
      if (has(keys)) set(*text, keys);
    return;
  }
  const auto refuse_pair = [&](std::string_view why) {
    refuse(entry.text, fmt::format("{}={} names one for keys and one for values, but {}: name one", key, *text, why));
  };
  if (!draft.coded(true) || !draft.coded(false)) refuse_pair("one side is plain");
  if (!has(true) || !has(false)) refuse_pair(has(true) ? "values have none" : "keys have none");
  set(text->substr(0, slash), true);
  set(text->substr(slash + 1), false);
}

void set_scalars(const Entry& entry, Draft& draft) {
  for_sides(entry, "scalar", draft, [&](std::string_view text, bool keys) {
    for (const KvScalar scalar : scalars) {
      if (name(scalar) != text) continue;
      draft.side(keys).scalar = scalar;
      return;
    }
    refuse_value(entry, "scalar", *entry.value("scalar"),
                 "norm, corrected, unbiased, best, or two of them as K/V, for instance norm/best");
  });
}

void set_groups(const Entry& entry, Draft& draft) {
  for_sides(entry, "group", draft, [&](std::string_view text, bool keys) {
    draft.side(keys).group = chosen(entry, "group", text, draft.rules(keys).groups);
  });
}

void set_states(const Entry& entry, Draft& draft) {
  for_sides(entry, "states", draft, [&](std::string_view text, bool keys) {
    if (!draft.coded(keys)) return;
    const auto choices = codec::trellis_states(draft.side(keys).bits);
    const auto states = number<int>(text);
    if (!states || std::find(choices.begin(), choices.end(), *states) == choices.end())
      refuse(entry.text, fmt::format("states={} is not a value of {} with {} bits, there are {}", text,
                                     draft.rules(keys).name, draft.side(keys).bits, fmt::join(choices, ", ")));
    draft.side(keys).states = *states;
  });
}

void set_table(const Entry& entry, const Draft& draft) {
  for_sides(entry, "table", draft, [&](std::string_view text, bool keys) {
    chosen(entry, "table", text, {cache::table_version(draft.rules(keys).backend)});
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

// The tokens that a mean is of stay plain, so a sink holds them. Layers are set before.
void set_mean(const Entry& entry, KvFormat& format) {
  format.mean = tokens_of(entry, "mean");
  if (format.mean == 0) return;
  const auto plain_keys = [](const auto& sides) { return sides.k.kind == SideFormat::Kind::plain; };
  if (plain_keys(format) && std::all_of(format.layers.begin(), format.layers.end(), plain_keys))
    refuse(entry.text,
           fmt::format("mean={} is for compressed keys, and k={} leaves them plain", format.mean, format.k.bits));
  if (entry.value("sink") && format.sink < format.mean)
    refuse(entry.text, fmt::format("mean={} keeps the first {} tokens plain, and sink={} fewer: leave sink out",
                                   format.mean, format.mean, format.sink));
  format.sink = std::max(format.sink, format.mean);
}

// "2", "2/16" or "2/8": layers at each end, and the bits of their sides.
void set_boundary(const Entry& entry, KvFormat& format) {
  const auto text = entry.value("boundary");
  if (!text) return;
  const std::size_t slash = std::min(text->find('/'), text->size());
  const auto layers = number<int>(text->substr(0, slash));
  const std::string_view bits = slash < text->size() ? text->substr(slash + 1) : std::string_view("16");
  if (!layers || *layers < 0 || *layers > most_layers || (bits != "8" && bits != "16"))
    refuse_value(entry, "boundary", *text, "N or N/16 for bf16, N/8 for affine of 8 bits, N the layers at each end");
  format.boundary = *layers;
  if (*layers > 0 && bits == "8") format.edge = affine_8();
}

// A quarter of the channels of a split side has one bit more, of which there are at most 5.
void check_split(const Entry& entry, const Draft& draft, bool keys, int bits, std::string_view where) {
  if (!draft.settings.split || !draft.rules(keys).has("split") || bits >= 16 || bits <= 4) return;
  refuse(entry.text,
         fmt::format("split gives a quarter of the channels one bit more, so that {}={} has too many: there "
                     "are 2, 3, 4 with it",
                     where, bits));
}

// A side of a listed layer: of the backend where it has these bits, else affine of 8 bits, or plain.
SideFormat listed_side(const Entry& entry, Draft draft, bool keys, std::string_view text) {
  const std::vector<int>& own = keys ? draft.k_rules.k_bits : draft.v_rules.v_bits;
  std::vector<int> choices = own;
  if (!contains(choices, 8)) choices.push_back(8);
  choices.insert(choices.end(), {16, 32});
  const int bits = chosen(entry, keys ? "layers: k" : "layers: v", text, choices);
  if (bits == 8 && !contains(own, 8)) return affine_8();
  check_split(entry, draft, keys, bits, keys ? "layers: k" : "layers: v");
  Side& side = draft.side(keys);
  if (side.bits != bits) side.states = 0;  // the default of these bits
  side.bits = bits;
  return draft.format(keys);
}

// "3,7/k=8/v=5,11/k=5": layers of the model, then the bits of their sides.
void set_layers(const Entry& entry, const Draft& draft, KvFormat& format) {
  const auto text = entry.value("layers");
  if (!text) return;
  constexpr std::string_view expected = "lists of layers of the model with their bits, as in 3,7/k=8/v=5,11/k=5";
  if (format.boundary > 0) refuse(entry.text, "boundary and layers both choose layers: put all of them into layers");
  std::vector<int> waiting;
  for (const std::string_view item : parts_of(*text, ',')) {
    const std::vector<std::string_view> parts = parts_of(item, '/');
    const auto layer = number<int>(parts.front());
    if (!layer || *layer < 0 || *layer >= most_layers) refuse_value(entry, "layers", *text, expected);
    waiting.push_back(*layer);
    if (parts.size() == 1) continue;
    KvFormat::LayerSides sides{0, format.k, format.v};
    bool seen[2] = {};
    for (const std::string_view part : std::span(parts).subspan(1)) {
      const bool keys = part.starts_with("k=");
      if ((!keys && !part.starts_with("v=")) || seen[keys]) refuse_value(entry, "layers", *text, expected);
      seen[keys] = true;
      (keys ? sides.k : sides.v) = listed_side(entry, draft, keys, part.substr(2));
    }
    for (const int one : waiting) {
      if (sides.k == format.k && sides.v == format.v)
        refuse(entry.text, fmt::format("layers={} gives layer {} the bits that it has anyway: name others, or leave it "
                                       "out",
                                       *text, one));
      sides.layer = one;
      for (const KvFormat::LayerSides& other : format.layers)
        if (other.layer == one) refuse(entry.text, fmt::format("layers={} names layer {} twice", *text, one));
      format.layers.push_back(sides);
    }
    waiting.clear();
  }
  if (!waiting.empty())
    refuse(entry.text, fmt::format("layers={} does not say the bits of layer {}: end a list with /k=N, /v=N or both",
                                   *text, waiting.back()));
  std::sort(format.layers.begin(), format.layers.end(), [](const auto& a, const auto& b) { return a.layer < b.layer; });
}

// The entry of backends that a default stands for.
Entry resolved(const Entry& usual) {
  const std::string_view bits = usual.value("bits").value_or("4");
  const auto found = std::find_if(usual_bits.begin(), usual_bits.end(),
                                  [&](const BackendRules::Bits& one) { return one.name == bits; });
  if (found == usual_bits.end()) {
    std::vector<std::string_view> names;
    names.reserve(usual_bits.size());
    for (const BackendRules::Bits& one : usual_bits) names.push_back(one.name);
    refuse_value(usual, "bits", bits, fmt::format("{}", fmt::join(names, ", ")));
  }
  if (usual.value("bits") && usual.value("k") && usual.value("v"))
    refuse(usual.text, fmt::format("bits={} has no effect where both k and v are given: leave it out", bits));
  Entry entry = usual;
  entry.usual = false;
  entry.resolved = true;
  entry.keys.erase("bits");
  const std::string k = entry.keys.emplace("k", std::to_string(found->k)).first->second,
                    v = entry.keys.emplace("v", std::to_string(found->v)).first->second;
  entry.backend = k == "5" ? Backend::turboquant : Backend::trellis;
  const bool plain_values = v == "16" || v == "32", plain_keys = k == "16" || k == "32";
  if (k == "5" && !plain_values) entry.keys.emplace("values", "trellis");
  entry.keys.emplace("window", usual_window);
  if (!plain_keys) entry.keys.emplace("mean", usual_mean);
  return entry;
}

KvFormat understand(const Entry& entry) {
  check_keys(entry);
  if (entry.usual) return understand(resolved(entry));
  KvFormat format;
  format.backend = format.values = entry.backend;
  if (entry.backend == Backend::baseline) {
    const auto bits = entry.value("bits");
    format.k = format.v = plain(bits ? chosen(entry, "bits", *bits, {16, 32}) : 16);
    return format;
  }
  Draft draft = draft_of(entry);
  Settings& settings = draft.settings;
  format.values = draft.v_rules.backend;
  if (const auto text = entry.value("split")) settings.split = chosen(entry, "split", *text, {0, 1}) == 1;
  set_bits(entry, draft);
  set_scalars(entry, draft);
  set_groups(entry, draft);
  set_states(entry, draft);
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
  const int k = settings.k.bits;
  for (const bool keys : {true, false}) check_split(entry, draft, keys, draft.side(keys).bits, keys ? "k" : "v");
  if (entry.backend == Backend::qjl && k >= 16)
    refuse(entry.text, "qjl without its keys is affine values alone: ask for mlx_quant");
  if (entry.backend == Backend::sketch && k >= 16)
    refuse(entry.text, "sketch without its keys is affine values alone: ask for mlx_quant");
  format.k = draft.format(true);
  format.v = draft.format(false);
  set_table(entry, draft);
  if (const auto seed = entry.value("seed")) {
    const auto value = number<std::uint64_t>(*seed);
    if (!value) refuse_value(entry, "seed", *seed, "the whole numbers from 0 to 18446744073709551615");
    format.seed = *value;
  }
  format.window = tokens_of(entry, "window");
  format.sink = tokens_of(entry, "sink");
  set_boundary(entry, format);
  set_layers(entry, draft, format);
  set_mean(entry, format);
  return format;
}

// An option that is set for several entries at once: not what an entry of plain bf16 or a table version is.
void set_key(Entry& entry, const std::string& key, const std::string& value) {
  const auto refuse_use = [&](const std::string& problem) {
    throw Error(ErrorKind::usage, fmt::format("cache format `{}`: {}", entry.text, problem));
  };
  if (value.empty())
    refuse_use(fmt::format("an option sets the key `{}` to nothing: give it a value, or leave it out", key));
  if (entry.backend == Backend::baseline || key == "table" || !has_key(entry, key))
    refuse_use(
        fmt::format("{} has no key `{}`, which an option sets to {} for every format: set it in those that have it",
                    entry.title(), key, value));
  const auto [place, added] = entry.keys.emplace(key, value);
  if (!added && place->second != value)
    refuse_use(fmt::format("it has {}={}, and an option sets {}={}: give one of them", key, place->second, key, value));
  if (added) entry.text += fmt::format(":{}={}", key, value);
}

// Formats between commas; what begins with a digit is a layer of a list in the format before.
std::vector<std::string> entries_of(std::string_view list) {
  std::vector<std::string> entries;
  for (const std::string_view part : parts_of(list, ',')) {
    if (part.empty())
      throw Error(ErrorKind::usage, fmt::format("cache formats `{}`: an entry is empty, a backend was expected", list));
    const bool layer = part.front() >= '0' && part.front() <= '9';
    if (layer && !entries.empty())
      entries.back() += fmt::format(",{}", part);
    else
      entries.emplace_back(part);
  }
  return entries;
}

}  // namespace

KvFormat KvFormat::of(Backend backend) {
  Entry entry;
  entry.text = name(backend);
  entry.backend = backend;
  return understand(entry);
}

KvFormat KvFormat::usual() {
  return parse(usual_name);
}

KvFormat KvFormat::parse(std::string_view text) {
  return understand(split(text));
}

std::vector<KvFormat> parse_formats(std::string_view list, const std::map<std::string, std::string>& keys) {
  std::vector<KvFormat> formats;
  for (const std::string& text : entries_of(list)) {
    Entry entry = split(text);
    if (const auto values = keys.find("values"); values != keys.end())  // first: the keys of its sides follow from it
      set_key(entry, values->first, values->second);
    for (const auto& [key, value] : keys) set_key(entry, key, value);
    formats.push_back(understand(entry));
  }
  return formats;
}

}  // namespace tqkv
