#include "server/protocol/json.h"

#include <fmt/format.h>

#include <optional>
#include <set>

#include "base/printable.h"
#include "base/text_encoding.h"
#include "base/utf8.h"
#include "loaders/json.h"
#include "server/protocol/api_error.h"

namespace tqkv::server {
namespace {

/// Appends to containers without looking for a key's earlier place, which takes the square of their size.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Json root;
  std::string error;

  bool null() override { return put(nullptr) != nullptr; }
  bool boolean(bool value) override { return put(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return put(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return put(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override { return put(value) != nullptr; }
  bool string(string_t& value) override { return put(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& value) override {
    Open& top = open_.back();
    if (!top.keys.insert(value).second) {
      error = fmt::format("{} comes twice in one object", in_quotes(value));
      return false;
    }
    top.key = std::move(value);
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& exception) override {
    error = json_problem(exception);
    return false;
  }

 private:
  struct Open {
    Json* value;  // stays where it is: only the innermost value grows
    std::set<std::string> keys;
    std::string key;
  };

  Json* put(Json value) {
    if (++values_ > most_json_values) {
      error = fmt::format("it has more than {} values", most_json_values);
      return nullptr;
    }
    if (open_.empty()) return &(root = std::move(value));
    Open& top = open_.back();
    if (top.value->is_array()) {
      auto& items = top.value->get_ref<Json::array_t&>();
      items.push_back(std::move(value));
      return &items.back();
    }
    auto& members = top.value->get_ref<Json::object_t&>();
    members.push_back({std::move(top.key), std::move(value)});
    return &members.back().second;
  }

  bool open(Json empty) {
    if (open_.size() == static_cast<std::size_t>(deepest_json)) {
      error = fmt::format("it is nested deeper than {} levels", deepest_json);
      return false;
    }
    Json* value = put(std::move(empty));
    if (value) open_.push_back({value, {}, {}});
    return value != nullptr;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::vector<Open> open_;
  int values_ = 0;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view what, std::string_view field) {
  if (const std::optional<InvalidUtf8> invalid = find_invalid_utf8(text))
    throw bad_request(field, fmt::format("{} is not UTF-8: {}.", what, invalid->text()));
  Builder builder;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder))
    throw bad_request(field, fmt::format("{} cannot be read as JSON: {}.", what, shortened(builder.error, 300)));
  return std::move(builder.root);
}

std::string print(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string_view kind_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::object:
      return "an object";
    default:
      return "a number";
  }
}

std::string shortened(std::string_view text, std::size_t most) {
  std::size_t end = 0;
  for (std::size_t count = 0; end < text.size() && count < most; ++count) end += next_character(text, end).length;
  return printable(text.substr(0, end), Keep::nothing) + (end < text.size() ? "…" : "");
}

std::string in_quotes(std::string_view text) {
  return "'" + shortened(text, 60) + "'";
}

}  // namespace tqkv::server
