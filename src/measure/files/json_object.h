// The fields of a JSON file from outside: every value is checked for its type and its range where it is taken.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tqkv::measure {

/// Throws Error(input): "FILE: what".
[[noreturn]] void refuse_file(const std::string& file, const std::string& what);

/// An object of a file. All members throw Error(input) that names the file, the place and the value.
class JsonObject {
 public:
  /// Refers to `json`, which must live longer. `place` is how messages name the object: "runs[2].recall".
  JsonObject(std::string file, const nlohmann::json& json, std::string place);

  const std::string& file() const { return file_; }
  const std::string& place() const { return place_; }
  /// Whether there is a value that is not null.
  bool has(const char* key) const;
  JsonObject object(const char* key) const;
  /// Of objects; at most 10,000.
  std::vector<JsonObject> objects(const char* key) const;
  /// At most 4,000 bytes.
  std::string text(const char* key) const;
  std::string text_or(const char* key, std::string_view other) const;
  /// At most 10,000.
  std::vector<std::string> texts(const char* key) const;
  /// The place of the text among `choices`.
  std::size_t choice(const char* key, const std::vector<std::string>& choices) const;
  /// A text, number or truth value as text; a list of them with commas.
  std::string words_or(const char* key, std::string_view other) const;
  /// Every value that is no object, null or list of such, with its key: as words_or().
  std::vector<std::pair<std::string, std::string>> all_words() const;
  std::uint64_t count(const char* key, std::uint64_t most = std::uint64_t{1} << 53) const;
  /// Every value, with its key.
  std::vector<std::pair<std::string, int>> counts() const;
  std::uint64_t count_or(const char* key, std::uint64_t other) const;
  bool truth(const char* key) const;
  double number(const char* key, double least, double most) const;
  std::vector<double> numbers(const char* key, double least, double most) const;
  /// Lists of whole numbers up to `most`.
  std::vector<std::vector<int>> table(const char* key, std::uint64_t most) const;

 private:
  const nlohmann::json& get(const char* key) const;
  [[noreturn]] void wrong(const char* key, const std::string& expected) const;
  std::string file_;
  const nlohmann::json* json_;
  std::string place_;
};

}  // namespace tqkv::measure
