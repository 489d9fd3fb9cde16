#include "measure/files/json_object.h"

#include <fmt/format.h>

#include <algorithm>

#include "tqkv/error.h"

namespace tqkv::measure {
namespace {

using nlohmann::json;

constexpr std::size_t most_objects = 10'000, longest_text = 4'000;

std::string plain(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// A value as a message shows it: on one line and short.
std::string shown(const json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

}  // namespace

void refuse_file(const std::string& file, const std::string& what) {
  throw Error(ErrorKind::input, fmt::format("{}: {}", file, what));
}

JsonObject::JsonObject(std::string file, const json& value, std::string place)
    : file_(std::move(file)), json_(&value), place_(std::move(place)) {
  if (!value.is_object()) refuse_file(file_, fmt::format("{} is {}, an object was expected", place_, shown(value)));
}

const json& JsonObject::get(const char* key) const {
  const auto found = json_->find(key);
  if (found == json_->end()) refuse_file(file_, fmt::format("{} has no '{}'", place_, key));
  return *found;
}

void JsonObject::wrong(const char* key, const std::string& expected) const {
  refuse_file(file_, fmt::format("{}: '{}' is {}, {} was expected", place_, key, shown(get(key)), expected));
}

bool JsonObject::has(const char* key) const {
  const auto found = json_->find(key);
  return found != json_->end() && !found->is_null();
}

JsonObject JsonObject::object(const char* key) const {
  const json& value = get(key);
  if (!value.is_object()) wrong(key, "an object");
  return {file_, value, place_ == "the file" ? key : fmt::format("{}.{}", place_, key)};
}

std::vector<JsonObject> JsonObject::objects(const char* key) const {
  const json& list = get(key);
  if (!list.is_array()) wrong(key, "a list");
  if (list.size() > most_objects)
    refuse_file(file_, fmt::format("{}: '{}' has {} entries, at most {} were expected", place_, key, list.size(),
                                   most_objects));
  std::vector<JsonObject> objects;
  const std::string name = place_ == "the file" ? key : fmt::format("{}.{}", place_, key);
  for (std::size_t i = 0; i < list.size(); ++i) objects.emplace_back(file_, list[i], fmt::format("{}[{}]", name, i));
  return objects;
}

std::string JsonObject::text(const char* key) const {
  const json& value = get(key);
  if (!value.is_string()) wrong(key, "a text");
  std::string text = value.get<std::string>();
  if (text.size() > longest_text) wrong(key, fmt::format("a text of at most {} bytes", longest_text));
  return text;
}

std::string JsonObject::text_or(const char* key, std::string_view other) const {
  return has(key) ? text(key) : std::string(other);
}

std::vector<std::string> JsonObject::texts(const char* key) const {
  std::vector<std::string> texts;
  const json& list = get(key);
  const auto fits = [](const json& entry) {
    return entry.is_string() && entry.get_ref<const std::string&>().size() <= longest_text;
  };
  if (!list.is_array() || list.size() > most_objects || !std::all_of(list.begin(), list.end(), fits))
    wrong(key, "a list of texts");
  for (const json& entry : list) texts.push_back(entry.get<std::string>());
  return texts;
}

std::size_t JsonObject::choice(const char* key, const std::vector<std::string>& choices) const {
  const auto found = std::find(choices.begin(), choices.end(), text(key));
  if (found == choices.end()) wrong(key, fmt::format("one of {}", fmt::join(choices, ", ")));
  return static_cast<std::size_t>(found - choices.begin());
}

std::string JsonObject::words_or(const char* key, std::string_view other) const {
  if (!has(key)) return std::string(other);
  const json& value = get(key);
  std::string words;
  if (value.is_object()) wrong(key, "a text, a number or a list of them");
  if (value.is_array()) {
    for (const json& entry : value) {
      if (entry.is_structured()) wrong(key, "a text, a number or a list of them");
      words += (words.empty() ? "" : ", ") + plain(entry);
      if (words.size() > longest_text) wrong(key, "a shorter list");
    }
    return words;
  }
  words = plain(value);
  if (words.size() > longest_text) wrong(key, fmt::format("a text of at most {} bytes", longest_text));
  return words;
}

std::vector<std::pair<std::string, std::string>> JsonObject::all_words() const {
  std::vector<std::pair<std::string, std::string>> all;
  for (const auto& [key, value] : json_->items()) {
    const bool structured = value.is_array() && std::any_of(value.begin(), value.end(),
                                                            [](const json& entry) { return entry.is_structured(); });
    if (value.is_null() || value.is_object() || structured) continue;
    if (key.size() > 200 || all.size() == 100) wrong(key.c_str(), "fewer and shorter names");
    all.emplace_back(key, words_or(key.c_str(), ""));
  }
  return all;
}

std::uint64_t JsonObject::count(const char* key, std::uint64_t most) const {
  const json& value = get(key);
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most)
    wrong(key, fmt::format("a whole number from 0 to {}", most));
  return value.get<std::uint64_t>();
}

std::vector<std::pair<std::string, int>> JsonObject::counts() const {
  std::vector<std::pair<std::string, int>> all;
  for (const auto& [key, value] : json_->items()) {
    if (key.size() > 200 || all.size() == 100) wrong(key.c_str(), "fewer and shorter names");
    all.emplace_back(key, static_cast<int>(count(key.c_str(), 1 << 30)));
  }
  return all;
}

std::uint64_t JsonObject::count_or(const char* key, std::uint64_t other) const {
  return has(key) ? count(key) : other;
}

bool JsonObject::truth(const char* key) const {
  const json& value = get(key);
  if (!value.is_boolean()) wrong(key, "true or false");
  return value.get<bool>();
}

double JsonObject::number(const char* key, double least, double most) const {
  const json& value = get(key);
  if (!value.is_number()) wrong(key, "a number");
  const double number = value.get<double>();
  if (!(number >= least && number <= most)) wrong(key, fmt::format("a number from {} to {}", least, most));
  return number;
}

std::vector<double> JsonObject::numbers(const char* key, double least, double most) const {
  const json& list = get(key);
  if (!list.is_array()) wrong(key, "a list of numbers");
  std::vector<double> numbers;
  for (const json& value : list) {
    const double number = value.is_number() ? value.get<double>() : least - 1;
    if (!(number >= least && number <= most)) wrong(key, fmt::format("a list of numbers from {} to {}", least, most));
    numbers.push_back(number);
  }
  return numbers;
}

std::vector<std::vector<int>> JsonObject::table(const char* key, std::uint64_t most) const {
  const json& rows = get(key);
  const auto fits = [&](const json& row) {
    return row.is_array() && std::all_of(row.begin(), row.end(), [&](const json& value) {
             return value.is_number_unsigned() && value.get<std::uint64_t>() <= most;
           });
  };
  if (!rows.is_array() || !std::all_of(rows.begin(), rows.end(), fits))
    wrong(key, fmt::format("a list of lists of whole numbers from 0 to {}", most));
  return rows.get<std::vector<std::vector<int>>>();
}

}  // namespace tqkv::measure
