// A struct of a file is described once: a function template describe(fields, value) names its fields, and is walked by
// the writer and by the reader, which checks what it takes. A new field is one line.
//
//   template <class Fields>
//   void describe(Fields& fields, Described<Fields, Point>& point) {
//     fields.field("bits", point.bits, Limits{1, 16});
//     fields.since("kl", point.kl);
//   }
//
// Values are numbers, truth values, texts, names (Names below), described structs, and std::optional and std::vector of
// them; pairs of a name and a number are an object. An empty optional is null, or absent.
#pragma once
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "measure/files/json_object.h"
#include "tqkv/device.h"

namespace tqkv::measure {

/// A writer sees constant values.
template <class Fields, class T>
using Described = std::conditional_t<Fields::reading, T, const T>;

/// Where a number of a file lies. Whole numbers end at 2^53, those of an int at 2^30.
struct Limits {
  double least = 0, most = 9007199254740992.0;
};
inline constexpr Limits any_number{-1e300, 1e300}, not_negative{0, 1e300}, a_share{0, 1};

/// The values that have a name in files: Names<E>::all() and name(E).
template <class E>
struct Names;
template <>
struct Names<Precision> {
  static std::vector<Precision> all() { return {Precision::f32, Precision::fast}; }
};

namespace fields_detail {
template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;
template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;
using NamedNumbers = std::vector<std::pair<std::string, int>>;  // an object
template <class T>
inline constexpr bool is_plain = std::is_arithmetic_v<T> || std::is_same_v<T, std::string>;
}  // namespace fields_detail

class JsonWriter {
 public:
  static constexpr bool reading = false;
  using Json = nlohmann::ordered_json;

  template <class T>
  void field(const char* key, const T& value, Limits = {}) {
    json_[key] = json_of(value);
  }
  /// Of a field that a file may lack; it keeps its value then.
  template <class T>
  void since(const char* key, const T& value, Limits = {}) {
    field(key, value);
  }
  /// For readers of other programs: it follows from the others.
  template <class T>
  void derived(const char* key, const T& value) {
    field(key, value);
  }
  /// An object without a struct of its own.
  template <class Body>
  void object(const char* key, const Body& body) {
    JsonWriter inner;
    body(inner);
    json_[key] = std::move(inner.json_);
  }
  /// The fields of a struct among those of the object. Without the struct all are null.
  template <class T>
  void inlined(const char*, const std::optional<T>& value) {
    Json fields = json_of(value ? *value : T{});
    for (auto& [key, one] : fields.items()) json_[key] = value ? std::move(one) : Json(nullptr);
  }
  /// Bytes, as 10^9 of them.
  void gigabytes(const char* key, std::uint64_t bytes) { json_[key] = static_cast<double>(bytes) / 1e9; }
  /// What must hold of the values read; `problem` follows the object's name.
  void require(bool, const char*) {}

  template <class T>
  static Json json_of(const T& value) {
    using namespace fields_detail;
    if constexpr (is_optional<T>) {
      return value ? json_of(*value) : Json(nullptr);
    } else if constexpr (std::is_same_v<T, NamedNumbers>) {
      Json object = Json::object();
      for (const auto& [name, number] : value) object[name] = number;
      return object;
    } else if constexpr (is_vector<T>) {
      Json list = Json::array();
      for (const auto& one : value) list.push_back(json_of(one));
      return list;
    } else if constexpr (is_plain<T>) {
      return value;  // NaN and infinity become null
    } else if constexpr (std::is_enum_v<T>) {
      return name(value);
    } else {
      JsonWriter inner;
      describe(inner, value);
      return std::move(inner.json_);
    }
  }

 private:
  Json json_ = Json::object();
};

class JsonReader {
 public:
  static constexpr bool reading = true;

  explicit JsonReader(JsonObject json) : json_(std::move(json)) {}

  template <class T>
  void field(const char* key, T& value, Limits limits = {}) {
    using namespace fields_detail;
    if constexpr (is_optional<T>) {
      value.reset();
      if (json_.has(key)) field(key, value.emplace(), limits);
    } else if constexpr (std::is_same_v<T, NamedNumbers>) {
      value = json_.object(key).counts();
    } else if constexpr (is_vector<T>) {
      read_list(key, value, limits);
    } else if constexpr (std::is_same_v<T, bool>) {
      value = json_.truth(key);
    } else if constexpr (std::is_same_v<T, std::string>) {
      value = json_.text(key);
    } else if constexpr (std::is_integral_v<T>) {
      constexpr double largest = sizeof(T) < 8 ? 1 << 30 : 9007199254740992.0;
      value =
          static_cast<T>(json_.count(key, static_cast<std::uint64_t>(limits.most < largest ? limits.most : largest)));
    } else if constexpr (std::is_floating_point_v<T>) {
      value = json_.number(key, limits.least, limits.most);
    } else if constexpr (std::is_enum_v<T>) {
      read_name(key, value);
    } else {
      JsonReader inner(json_.object(key));
      describe(inner, value);
    }
  }
  template <class T>
  void since(const char* key, T& value, Limits limits = {}) {
    if (json_.has(key)) field(key, value, limits);
  }
  template <class T>
  void derived(const char*, const T&) {}
  template <class Body>
  void object(const char* key, const Body& body) {
    JsonReader inner(json_.object(key));
    body(inner);
  }
  /// `key` is the field that tells whether the struct is there.
  template <class T>
  void inlined(const char* key, std::optional<T>& value) {
    value.reset();
    if (json_.has(key)) describe(*this, value.emplace());
  }
  void gigabytes(const char* key, std::uint64_t& bytes) {
    bytes = static_cast<std::uint64_t>(std::llround(json_.number(key, 0, 9e6) * 1e9));
  }
  void require(bool good, const char* problem) const {
    if (!good) refuse_file(json_.file(), json_.place() + " " + problem);
  }

 private:
  template <class T>
  void read_list(const char* key, std::vector<T>& list, Limits limits) {
    list.clear();
    if constexpr (std::is_same_v<T, double>) {
      list = json_.numbers(key, limits.least, limits.most);
    } else if constexpr (std::is_same_v<T, std::string>) {
      list = json_.texts(key);
    } else if constexpr (std::is_same_v<T, std::vector<int>>) {
      list = json_.table(key, static_cast<std::uint64_t>(limits.most));
    } else {
      for (const JsonObject& one : json_.objects(key)) {
        JsonReader inner(one);
        describe(inner, list.emplace_back());
      }
    }
  }
  template <class E>
  void read_name(const char* key, E& value) {
    std::vector<std::string> names;
    for (const E one : Names<E>::all()) names.emplace_back(name(one));
    value = Names<E>::all()[json_.choice(key, names)];
  }

  JsonObject json_;
};

/// Takes a described struct out of an object. Throws Error(input) that names the file, the place and the value.
template <class T>
void take(const JsonObject& json, T& value) {
  JsonReader reader(json);
  describe(reader, value);
}

}  // namespace tqkv::measure
