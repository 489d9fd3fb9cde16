// Reading tokenizer.json and tokenizer_config.json: the one pipeline there is (NFC, split, byte-level BPE), checked
// part by part; anything that would give other ids is refused by name.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "loaders/json.h"
#include "text/tokenizer_impl.h"
#include "text/unicode.h"
#include "text/utf8.h"
#include "tqkv/error.h"

namespace tqkv {
namespace {

using Json = nlohmann::json;
using text::AddedToken;

constexpr int id_limit = 1 << 24;
constexpr std::size_t longest_added = 1024;  // bytes of an added token

/// The reader of one file: knows its name for the messages.
struct Reader {
  std::string where;

  [[noreturn]] void fail(const std::string& message) const {
    throw Error(ErrorKind::tokenizer, fmt::format("{}: {}", where, message));
  }

  Json read(std::string_view text) const {
    try {
      return Json::parse(text);
    } catch (const Json::exception& error) {
      fail(fmt::format("broken JSON: {}", json_problem(error)));
    }
  }

  /// A member, or null.
  static const Json& member(const Json& object, const char* key) {
    static const Json none;
    if (!object.is_object()) return none;
    const auto found = object.find(key);
    return found == object.end() ? none : *found;
  }

  /// Something from the file as it can stand in a message.
  static std::string shown(const Json& value) {
    std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (text.size() > 80) text = text.substr(0, 80) + "…";
    return text;
  }

  bool flag(const Json& object, const char* key, bool otherwise) const {
    const Json& value = member(object, key);
    if (value.is_null()) return otherwise;
    if (!value.is_boolean()) fail(fmt::format("{} is {}, expected true or false", key, shown(value)));
    return value.get<bool>();
  }

  std::string type_of(const Json& part, const char* what) const {
    const Json& type = member(part, "type");
    if (!type.is_string()) fail(fmt::format("{} has no type: {}", what, shown(part)));
    return type.get<std::string>();
  }

  int id(const Json& value, std::string_view token) const {
    const bool fits = value.is_number_unsigned() && value.get<std::uint64_t>() < id_limit;
    if (!fits)
      fail(fmt::format("the id of {} is {}, expected 0 to {}", shown(Json(token)), shown(value), id_limit - 1));
    return value.get<int>();
  }
};

bool read_normalizer(const Reader& in, const Json& part) {
  if (part.is_null()) return false;
  const std::string type = in.type_of(part, "normalizer");
  if (type == "NFC") return true;
  if (type == "Sequence") {
    bool nfc = false;
    for (const Json& inner : Reader::member(part, "normalizers")) {
      if (in.type_of(inner, "normalizer") != "NFC") in.fail("unsupported normalizer " + Reader::shown(inner));
      nfc = true;
    }
    return nfc;
  }
  in.fail(fmt::format("unsupported normalizer {}, expected NFC", Reader::shown(part)));
}

/// The split pattern.
std::string read_pre_tokenizer(const Reader& in, const Json& part) {
  static constexpr const char* expected =
      "expected a Sequence of Split by a Regex (Isolated) and ByteLevel without one";
  if (part.is_null() || in.type_of(part, "pre_tokenizer") != "Sequence") {
    in.fail(fmt::format("unsupported pre_tokenizer {}, {}", Reader::shown(part), expected));
  }
  const Json& parts = Reader::member(part, "pretokenizers");
  if (!parts.is_array() || parts.size() != 2 || in.type_of(parts[0], "pre_tokenizer") != "Split" ||
      in.type_of(parts[1], "pre_tokenizer") != "ByteLevel") {
    in.fail(fmt::format("unsupported pre_tokenizer {}, {}", Reader::shown(part), expected));
  }
  const Json& behavior = Reader::member(parts[0], "behavior");
  const Json& regex = Reader::member(Reader::member(parts[0], "pattern"), "Regex");
  if (behavior != "Isolated" || in.flag(parts[0], "invert", false) || !regex.is_string()) {
    in.fail(fmt::format("unsupported Split {}, {}", Reader::shown(parts[0]), expected));
  }
  if (in.flag(parts[1], "add_prefix_space", true) || in.flag(parts[1], "use_regex", true)) {
    in.fail(fmt::format("unsupported ByteLevel {}, expected add_prefix_space and use_regex to be false",
                        Reader::shown(parts[1])));
  }
  return regex.get<std::string>();
}

/// A post-processor may do nothing to the ids.
void check_post_processor(const Reader& in, const Json& part) {
  if (part.is_null()) return;
  const std::string type = in.type_of(part, "post_processor");
  if (type == "ByteLevel") return;
  bool harmless = type == "Sequence";
  if (harmless) {
    for (const Json& inner : Reader::member(part, "processors")) {
      harmless = harmless && in.type_of(inner, "post_processor") == "ByteLevel";
    }
  }
  if (!harmless) in.fail(fmt::format("unsupported post_processor {}, expected ByteLevel or none", Reader::shown(part)));
}

void check_model(const Reader& in, const Json& model) {
  if (!model.is_object()) in.fail("it has no model");
  const Json& type = Reader::member(model, "type");
  if (!type.is_null() && type != "BPE") in.fail(fmt::format("unsupported model {}, expected BPE", Reader::shown(type)));
  if (in.flag(model, "ignore_merges", false)) in.fail("unsupported model: ignore_merges is true, expected false");
  const Json& dropout = Reader::member(model, "dropout");
  if (!dropout.is_null() && dropout != 0.0) {
    in.fail(fmt::format("unsupported model: dropout is {}, expected none", Reader::shown(dropout)));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json& affix = Reader::member(model, key);
    if (!affix.is_null() && affix != Json("")) {
      in.fail(fmt::format("unsupported model: {} is {}, expected none", key, Reader::shown(affix)));
    }
  }
}

using Vocabulary = std::unordered_map<std::string_view, int>;  // keys live in the JSON

Vocabulary read_vocabulary(const Reader& in, const Json& model) {
  const Json& vocab = Reader::member(model, "vocab");
  if (!vocab.is_object() || vocab.empty()) in.fail("model.vocab is missing or not an object of tokens and ids");
  Vocabulary result;
  result.reserve(vocab.size());
  for (auto entry = vocab.begin(); entry != vocab.end(); ++entry) {
    result.emplace(entry.key(), in.id(entry.value(), entry.key()));
  }
  return result;
}

/// Every byte must have a token and no two tokens an id.
void take_vocabulary(const Reader& in, const Vocabulary& vocabulary, Tokenizer::Impl& out) {
  std::vector<int> ids;
  ids.reserve(vocabulary.size());
  for (const auto& entry : vocabulary) ids.push_back(entry.second);
  std::sort(ids.begin(), ids.end());
  const auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice != ids.end()) in.fail(fmt::format("model.vocab gives id {} to two tokens", *twice));
  for (std::size_t byte = 0; byte < 256; ++byte) {
    std::string spelled;
    text::append_character(spelled, text::byte_alphabet()[byte]);
    const auto found = vocabulary.find(spelled);
    if (found == vocabulary.end()) in.fail(fmt::format("model.vocab has no token for the byte 0x{:02x}", byte));
    out.bpe.set_byte(static_cast<std::uint8_t>(byte), found->second);
  }
  out.tokens.resize(static_cast<std::size_t>(ids.back()) + 1);
  for (const auto& [token, id] : vocabulary) out.put(id, text::bytes_of(token).value_or(std::string(token)));
}

void read_merges(const Reader& in, const Json& model, const Vocabulary& vocabulary, text::Bpe& bpe) {
  const Json& merges = Reader::member(model, "merges");
  if (!merges.is_array()) in.fail("model.merges is missing or not an array");
  bpe.reserve(merges.size());
  std::string joined;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const Json& merge = merges[rank];
    std::string_view left, right;
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get_ref<const std::string&>();
      right = merge[1].get_ref<const std::string&>();
    } else if (merge.is_string()) {
      const std::string_view both = merge.get_ref<const std::string&>();
      const std::size_t blank = both.find(' ');
      if (blank != std::string_view::npos && both.find(' ', blank + 1) == std::string_view::npos) {
        left = both.substr(0, blank);
        right = both.substr(blank + 1);
      }
    }
    if (left.empty() || right.empty()) {
      in.fail(fmt::format(R"(merge {} is {}, expected "a b" or ["a", "b"])", rank, Reader::shown(merge)));
    }
    joined.assign(left).append(right);
    const auto a = vocabulary.find(left), b = vocabulary.find(right), c = vocabulary.find(joined);
    if (a == vocabulary.end() || b == vocabulary.end() || c == vocabulary.end()) {
      in.fail(fmt::format("merge {}, {}, refers to a token that is not in model.vocab", rank, Reader::shown(merge)));
    }
    bpe.add(a->second, b->second, c->second);
  }
}

AddedToken read_added(const Reader& in, const Json& entry, int id) {
  AddedToken token;
  token.id = id;
  const Json& content = Reader::member(entry, "content");
  if (content.is_string()) token.content = content.get<std::string>();
  if (token.content.empty() || token.content.size() > longest_added) {
    in.fail(fmt::format("added token {}: content is {}, expected a string of 1 to {} bytes", id, Reader::shown(content),
                        longest_added));
  }
  token.special = in.flag(entry, "special", false);
  token.normalized = in.flag(entry, "normalized", !token.special);
  token.lstrip = in.flag(entry, "lstrip", false);
  token.rstrip = in.flag(entry, "rstrip", false);
  if (in.flag(entry, "single_word", false)) {
    in.fail(fmt::format("added token {}, {}: single_word is not supported", id, Reader::shown(content)));
  }
  return token;
}

/// Those of tokenizer.json, then those that only tokenizer_config.json lists.
std::vector<AddedToken> read_added_tokens(const Reader& in, const Json& tokenizer, const Reader& config_in,
                                          const Json& config) {
  std::vector<AddedToken> result;
  const Json& listed = Reader::member(tokenizer, "added_tokens");
  if (!listed.is_null() && !listed.is_array()) in.fail("added_tokens is not an array");
  for (const Json& entry : listed)
    result.push_back(read_added(in, entry, in.id(Reader::member(entry, "id"), "an added token")));
  std::unordered_map<int, std::string> known;
  for (const AddedToken& token : result) {
    if (!known.emplace(token.id, token.content).second) in.fail(fmt::format("id {} has two added tokens", token.id));
  }
  const Json& more = Reader::member(config, "added_tokens_decoder");
  if (!more.is_null() && !more.is_object()) config_in.fail("added_tokens_decoder is not an object");
  for (auto entry = more.begin(); entry != more.end(); ++entry) {
    const std::string& key = entry.key();
    int id = -1;
    const auto [end, status] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (status != std::errc{} || end != key.data() + key.size() || id < 0 || id >= id_limit) {
      config_in.fail(
          fmt::format("added_tokens_decoder has the id {}, expected 0 to {}", Reader::shown(key), id_limit - 1));
    }
    AddedToken token = read_added(config_in, entry.value(), id);
    const auto [place, is_new] = known.emplace(id, token.content);
    if (is_new) {
      result.push_back(std::move(token));
    } else if (place->second != token.content) {
      config_in.fail(fmt::format("added token {} is {}, in tokenizer.json it is {}", id, Reader::shown(token.content),
                                 Reader::shown(place->second)));
    }
  }
  return result;
}

void take_added_tokens(const Reader& in, const std::vector<AddedToken>& added, const Vocabulary& vocabulary,
                       Tokenizer::Impl& out) {
  for (const AddedToken& token : added) {
    const auto twin = vocabulary.find(token.content);
    const bool taken = static_cast<std::size_t>(token.id) < out.tokens.size() &&
                       out.tokens[static_cast<std::size_t>(token.id)].present;
    if (twin != vocabulary.end() ? twin->second != token.id : taken) {
      in.fail(fmt::format("added token {}, {}, contradicts model.vocab", token.id, Reader::shown(token.content)));
    }
    if (!out.added.emplace(token.content, token.id).second) {
      in.fail(fmt::format("the added token {} has two ids", Reader::shown(token.content)));
    }
    if (out.tokens.size() <= static_cast<std::size_t>(token.id))
      out.tokens.resize(static_cast<std::size_t>(token.id) + 1);
    if (!taken) out.put(token.id, text::bytes_of(token.content).value_or(token.content));
    out.tokens[static_cast<std::size_t>(token.id)].special = token.special;
    if (!token.normalized) {
      out.raw.add(token, token.content);
    } else {
      out.normalized.add(token, out.normalize ? text::nfc(token.content) : token.content);
    }
  }
}

/// A vocabulary with holes has lost tokens: its ids would be wrong without a word.
void check_complete(const Reader& in, const Vocabulary& vocabulary, const Tokenizer::Impl& out) {
  int largest = 0;
  for (const auto& entry : vocabulary) largest = std::max(largest, entry.second);
  int missing = 0, first = 0;
  for (int id = largest; id >= 0; --id) {
    if (out.tokens[static_cast<std::size_t>(id)].present) continue;
    ++missing;
    first = id;
  }
  if (missing > 0) {
    in.fail(fmt::format("{} of the ids 0 to {} have no token, the first is {}: the file is incomplete", missing,
                        largest, first));
  }
}

}  // namespace

void Tokenizer::Impl::put(int id, std::string_view token) {
  tokens[static_cast<std::size_t>(id)] = {static_cast<std::uint32_t>(bytes.size()),
                                          static_cast<std::uint32_t>(token.size()), true, false};
  bytes.append(token);
}

void Tokenizer::Impl::load(std::string_view tokenizer_json, std::string_view tokenizer_config, std::string_view where) {
  const Reader in{std::string(where)};
  const Reader config_in{fmt::format("tokenizer_config.json next to {}", where)};
  if (tokenizer_json.size() > (std::size_t{1} << 30)) {
    in.fail(fmt::format("it has {} bytes, at most 1 GiB is read", tokenizer_json.size()));
  }
  const Json tokenizer = in.read(tokenizer_json);
  if (!tokenizer.is_object()) in.fail("it is not a JSON object");
  const Json config = tokenizer_config.empty() ? Json() : config_in.read(tokenizer_config);
  if (!config.is_null() && !config.is_object()) config_in.fail("it is not a JSON object");

  normalize = read_normalizer(in, Reader::member(tokenizer, "normalizer"));
  std::string pattern = read_pre_tokenizer(in, Reader::member(tokenizer, "pre_tokenizer"));
  check_post_processor(in, Reader::member(tokenizer, "post_processor"));
  const Json& decoder = Reader::member(tokenizer, "decoder");
  if (in.type_of(decoder, "decoder") != "ByteLevel") {
    in.fail(fmt::format("unsupported decoder {}, expected ByteLevel", Reader::shown(decoder)));
  }
  const Json& declared = Reader::member(config, "pretokenize_regex");
  if (declared.is_string() && declared != pattern) {
    warnings.push_back(fmt::format("{} splits text by {}, but tokenizer_config.json says {}: the latter is used", where,
                                   Reader::shown(pattern), Reader::shown(declared)));
    pattern = declared.get<std::string>();
  } else if (!declared.is_null() && !declared.is_string()) {
    config_in.fail(fmt::format("pretokenize_regex is {}, expected a string", Reader::shown(declared)));
  }
  splitter.emplace(std::move(pattern), where);

  const Json& model = Reader::member(tokenizer, "model");
  check_model(in, model);
  const Vocabulary vocabulary = read_vocabulary(in, model);
  const std::vector<AddedToken> added_tokens = read_added_tokens(in, tokenizer, config_in, config);
  take_vocabulary(in, vocabulary, *this);
  read_merges(in, model, vocabulary, bpe);
  take_added_tokens(in, added_tokens, vocabulary, *this);
  check_complete(in, vocabulary, *this);
}

}  // namespace tqkv
