#include "text/python_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <unordered_map>

#include "loaders/json.h"
#include "tqkv/error.h"

namespace tqkv::text {
namespace {

constexpr std::size_t deepest = 200;

/// repr() of a float: fmt changes to an exponent at the same places and prints the same shortest digits.
std::string repr(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  PyValue root;
  std::string error;

  bool null() override { return put({PyValue::Kind::null, "None", {}, {}}); }
  bool boolean(bool value) override { return put({PyValue::Kind::boolean, value ? "True" : "False", {}, {}}); }
  bool number_integer(number_integer_t value) override {
    return put({PyValue::Kind::integer, std::to_string(value), {}, {}});
  }
  bool number_unsigned(number_unsigned_t value) override {
    return put({PyValue::Kind::integer, std::to_string(value), {}, {}});
  }
  bool number_float(number_float_t value, const string_t& token) override {
    if (token.find_first_of(".eE") == std::string::npos) return put({PyValue::Kind::integer, token, {}, {}});
    return put({PyValue::Kind::real, repr(value), {}, {}});
  }
  bool string(string_t& value) override { return put({PyValue::Kind::string, std::move(value), {}, {}}); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(PyValue::Kind::object); }
  bool start_array(std::size_t) override { return open(PyValue::Kind::array); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& value) override {
    Open& top = open_.back();
    const auto [entry, is_new] = top.places.emplace(value, top.value->keys.size());
    top.place = entry->second;
    if (is_new) {
      top.value->keys.push_back(value);
      top.value->items.emplace_back();
    }
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception& exception) override {
    error = json_problem(exception);
    return false;
  }

 private:
  struct Open {
    PyValue* value;  // stays where it is: only the innermost value grows
    std::unordered_map<std::string, std::size_t> places;
    std::size_t place = 0;
  };

  PyValue& next() {
    if (open_.empty()) return root;
    Open& top = open_.back();
    if (top.value->is(PyValue::Kind::object)) return top.value->items[top.place];
    return top.value->items.emplace_back();
  }
  bool put(PyValue value) {
    next() = std::move(value);
    return true;
  }
  bool open(PyValue::Kind kind) {
    if (open_.size() == deepest) {
      error = fmt::format("it is nested deeper than {}", deepest);
      return false;
    }
    PyValue& value = next();
    value = {kind, "", {}, {}};
    open_.push_back({&value, {}, 0});
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::vector<Open> open_;
};

void append_string(std::string& out, std::string_view text) {
  out.push_back('"');
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out.push_back(c);
        }
    }
  }
  out.push_back('"');
}

void append_json(std::string& out, const PyValue& value) {
  const char* between = "";
  switch (value.kind) {
    case PyValue::Kind::null:
      out += "null";
      break;
    case PyValue::Kind::boolean:
      out += value.text == "True" ? "true" : "false";
      break;
    case PyValue::Kind::integer:
    case PyValue::Kind::real:
      out += value.text;
      break;
    case PyValue::Kind::string:
      append_string(out, value.text);
      break;
    case PyValue::Kind::array:
      out.push_back('[');
      for (const PyValue& item : value.items) {
        out += between;
        append_json(out, item);
        between = ", ";
      }
      out.push_back(']');
      break;
    case PyValue::Kind::object:
      out.push_back('{');
      for (std::size_t i = 0; i < value.items.size(); ++i) {
        out += between;
        append_string(out, value.keys[i]);
        out += ": ";
        append_json(out, value.items[i]);
        between = ", ";
      }
      out.push_back('}');
      break;
  }
}

}  // namespace

const PyValue* PyValue::find(std::string_view key) const {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == key) return &items[i];
  }
  return nullptr;
}

std::string_view PyValue::kind_name() const {
  switch (kind) {
    case Kind::null:
      return "null";
    case Kind::boolean:
      return "a boolean";
    case Kind::integer:
    case Kind::real:
      return "a number";
    case Kind::string:
      return "a string";
    case Kind::array:
      return "an array";
    case Kind::object:
      return "an object";
  }
  return "";
}

PyValue parse_json(std::string_view text, std::string_view where) {
  Builder builder;
  if (!nlohmann::json::sax_parse(text, &builder)) {
    throw Error(ErrorKind::chat, fmt::format("{}: broken JSON: {}", where, builder.error));
  }
  return std::move(builder.root);
}

std::string to_json(const PyValue& value) {
  std::string out;
  append_json(out, value);
  return out;
}

std::string to_str(const PyValue& value) {
  return value.kind == PyValue::Kind::null ? "None" : value.text;
}

}  // namespace tqkv::text
