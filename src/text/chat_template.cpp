#include "text/chat_template.h"

#include <fmt/format.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "text/turns.h"
#include "text/utf8.h"
#include "tqkv/chat.h"

namespace tqkv {
namespace text {
namespace {

constexpr std::string_view blanks = " \t\r\n";

std::string_view trimmed(std::string_view line) {
  const std::size_t begin = line.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return line.substr(begin, line.find_last_not_of(" \t") + 1 - begin);
}

bool word_character(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

std::string_view word_at(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size() && word_character(text[end])) ++end;
  return text.substr(at, end - at);
}

bool chatml_role(std::string_view word) {
  constexpr std::array<std::string_view, 5> roles = {"system", "developer", "user", "assistant", "tool"};
  return std::find(roles.begin(), roles.end(), word) != roles.end();
}

/// Markers of the form <|word|> that a template for ChatML may have.
bool chatml_marker(std::string_view word) {
  return word == "im_start" || word == "im_end" || word == "endoftext" || word.starts_with("vision_") ||
         word == "image_pad" || word == "video_pad" || word.starts_with("audio_");
}

/// The first quoted word of a statement that is no role. Empty: there is none.
std::string_view quoted_other_role(std::string_view statement) {
  for (std::size_t at = statement.find_first_of("'\""); at != std::string_view::npos;) {
    const std::size_t end = statement.find(statement[at], at + 1);
    if (end == std::string_view::npos) break;
    const std::string_view word = statement.substr(at + 1, end - at - 1);
    if (!word.empty() && word == word_at(word, 0) && !chatml_role(word) && word != "role") return word;
    at = statement.find_first_of("'\"", end + 1);
  }
  return {};
}

/// What stands where a role does, behind <|im_start|>: the rest of a literal, or an expression.
std::optional<std::string> foreign_role(std::string_view rest) {
  if (const std::string_view word = word_at(rest, 0); !word.empty()) {
    if (chatml_role(word)) return std::nullopt;
    return fmt::format("the role \"{}\"", word.substr(0, 40));
  }
  const std::string_view end_of_tag = rest.substr(0, std::min(rest.find("\\n"), rest.find('\n')));
  if (const std::string_view word = quoted_other_role(end_of_tag.substr(std::min<std::size_t>(1, end_of_tag.size())));
      !word.empty())
    return fmt::format("the role \"{}\"", word.substr(0, 40));
  return std::nullopt;
}

}  // namespace

std::string normalised_template(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::string out;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find_first_of("\r\n"), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty()) continue;
    if (!out.empty()) out += '\n';
    out += line;
  }
  return out;
}

std::string template_hash(std::string_view chat_template) {
  const std::string text = normalised_template(chat_template);
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  std::string hex;
  for (const unsigned char byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

std::optional<std::string> foreign_markup(std::string_view text) {
  for (const std::string_view control : {start_of_turn, end_of_turn})
    if (text.find(control) == std::string_view::npos) return fmt::format("no {}", control);
  for (std::size_t at = text.find("<|"); at != std::string_view::npos; at = text.find("<|", at + 2)) {
    const std::string_view word = word_at(text, at + 2);
    if (text.substr(std::min(text.size(), at + 2 + word.size())).starts_with("|>") && !chatml_marker(word))
      return fmt::format("the marker <|{}|>", word.substr(0, 40));
  }
  for (const std::string_view marker : {"[INST]", "<start_of_turn>", "<<SYS>>", "### Instruction"})
    if (text.find(marker) != std::string_view::npos) return fmt::format("the marker {}", marker);
  for (std::size_t at = text.find(start_of_turn); at != std::string_view::npos; at = text.find(start_of_turn, at + 1))
    if (auto role = foreign_role(text.substr(at + start_of_turn.size()))) return role;
  // A role that is set or compared before it is written.
  for (const std::string_view name : {"set role", "role_map", "roles ="})
    if (const std::size_t at = text.find(name); at != std::string_view::npos) {
      const std::string_view rest = text.substr(at);
      const std::string_view word = quoted_other_role(rest.substr(0, rest.find("%}")));
      if (!word.empty()) return fmt::format("the role \"{}\"", word.substr(0, 40));
    }
  return std::nullopt;
}

bool contains_words(std::string_view text, std::initializer_list<std::string_view> words) {
  for (std::size_t at = text.find(*words.begin()); at != std::string_view::npos;
       at = text.find(*words.begin(), at + 1)) {
    std::size_t end = at;
    bool all = true;
    for (const std::string_view word : words) {
      const std::size_t start = word == *words.begin() ? at : text.find_first_not_of(blanks, end);
      all = start != std::string_view::npos && text.substr(start, word.size()) == word && (start > end || start == at);
      if (!all) break;
      end = start + word.size();
    }
    if (all) return true;
  }
  return false;
}

}  // namespace text

namespace {

struct KnownTemplate {
  std::string_view hash;  // text::template_hash
  ChatVariant variant;
};

// The files of the models named, and of their conversions to MLX, which keep them to the byte.
constexpr std::array known_templates = {
    // Qwen3.5-4B to 397B; the file's own SHA-256 is a4aee8af...f715
    KnownTemplate{"07b547a5054f79ad6715232196f23d1f64d0f30e547848a3250d6ce3b4676028", ChatVariant::qwen3_5},
    // Qwen3.5-0.8B and 2B; 273d8e0e...2d80
    KnownTemplate{"d1307363bf4276787e745a644c7c5b925ff355a18e9227edbc9df6fe35c535b9", ChatVariant::qwen3_5_no_think},
    // Qwen3.6-27B and 35B-A3B; e84f32a2...4259
    KnownTemplate{"a76f1f658bf1ce70151171c7d115ecf8ee50adb32f283de081ef9bc78a126e2f", ChatVariant::qwen3_6},
    // pocket
    KnownTemplate{"accc98dd82fc16e4a42cccbf94743792cb98ede8291cec4ed13f96c1d63e6c49", ChatVariant::plain}};

constexpr std::string_view remedy = "choose with --markup qwen3.5, qwen3.6 or chatml, or use --raw";

std::string_view markup_name(ChatVariant variant) {
  switch (variant) {
    case ChatVariant::qwen3_5:
    case ChatVariant::qwen3_5_no_think:
      return "qwen3.5";
    case ChatVariant::qwen3_6:
      return "qwen3.6";
    case ChatVariant::plain:
      return "chatml";
  }
  return "chatml";
}

/// The variant that a template whose roles and markers are ChatML's is nearest to.
std::optional<ChatVariant> nearest(std::string_view text) {
  const bool switches = text::contains(text, "enable_thinking") || text::contains(text, "preserve_thinking");
  if (!switches) return ChatVariant::plain;
  if (!text::contains(text, "<function=")) return std::nullopt;
  if (text::contains(text, "preserve_thinking")) return ChatVariant::qwen3_6;
  return text::contains_words(text, {"enable_thinking", "is", "true"}) ? ChatVariant::qwen3_5_no_think
                                                                       : ChatVariant::qwen3_5;
}

}  // namespace

std::optional<ChatTemplate> ChatTemplate::detect(std::string_view chat_template, const Tokenizer& tokenizer,
                                                 std::string* about) {
  std::string unused;
  std::string& words = about ? *about : unused;
  words.clear();
  for (const std::string_view control : {text::start_of_turn, text::end_of_turn})
    if (!tokenizer.control_id(control)) {
      words = fmt::format("the tokenizer has no {}: use --markup raw and write the markup in the prompt", control);
      return std::nullopt;
    }
  const std::string hash = text::template_hash(chat_template);
  const auto known = std::find_if(known_templates.begin(), known_templates.end(),
                                  [&](const KnownTemplate& one) { return one.hash == hash; });
  if (known != known_templates.end()) return ChatTemplate(known->variant);
  if (const auto foreign = text::foreign_markup(chat_template)) {
    words = fmt::format("the model's chat template is not a known one and has {}: {}", *foreign, remedy);
    return std::nullopt;
  }
  const std::optional<ChatVariant> variant = nearest(chat_template);
  if (!variant) {
    words = fmt::format("the model's chat template is not a known one and calls tools in another way than Qwen3.5: {}",
                        remedy);
    return std::nullopt;
  }
  ChatTemplate taken(*variant);
  if (*variant == ChatVariant::plain) taken.think_block_ = text::contains(chat_template, "</think>");
  words = fmt::format(
      "the model's chat template is not a known one: the markup {} is taken instead, without a system message or "
      "other text that the template may add (--markup decides)",
      markup_name(*variant));
  return taken;
}

std::optional<ChatTemplate> ChatTemplate::named(std::string_view markup) {
  if (markup == "qwen3.5") return ChatTemplate(ChatVariant::qwen3_5);
  if (markup == "qwen3.6") return ChatTemplate(ChatVariant::qwen3_6);
  if (markup != "chatml") return std::nullopt;
  ChatTemplate chatml(ChatVariant::plain);
  chatml.think_block_ = false;
  return chatml;
}

}  // namespace tqkv
