// What a chat template is: known by its hash, or like a known one.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace tqkv::text {

/// The template with line ends as \n, and without a byte order mark, blanks at both ends of a line, and empty lines.
/// None of these changes what a known template renders: each of its lines is one tag that strips the blanks around it.
std::string normalised_template(std::string_view chat_template);

/// SHA-256 of the normalised template, in 64 hexadecimal digits.
std::string template_hash(std::string_view chat_template);

/// A role or a marker in the template that is not ChatML's, in words. Nothing when they agree.
std::optional<std::string> foreign_markup(std::string_view chat_template);

/// Whether `text` has these words with any blanks between them.
bool contains_words(std::string_view text, std::initializer_list<std::string_view> words);

}  // namespace tqkv::text
