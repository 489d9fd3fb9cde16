// The fields of a JSON file from outside: every value is checked for its type and its range where it is taken.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tqkv/device.h"

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
  std::optional<JsonObject> object_or_none(const char* key) const;
  /// Of objects; at most 10,000.
  std::vector<JsonObject> objects(const char* key) const;
  std::vector<JsonObject> objects_or_none(const char* key) const;
  /// At most 4,000 bytes.
  std::string text(const char* key) const;
  std::string text_or(const char* key, std::string_view other) const;
  std::vector<std::string> texts_or_none(const char* key) const;
  /// A text, number or truth value as text; a list of them with commas.
  std::string words_or(const char* key, std::string_view other) const;
  /// Every value that is no object, null or list of such, with its key: as words_or().
  std::vector<std::pair<std::string, std::string>> all_words() const;
  std::uint64_t count(const char* key, std::uint64_t most = std::uint64_t{1} << 53) const;
  std::uint64_t count_or(const char* key, std::uint64_t other) const;
  bool truth_or(const char* key, bool other) const;
  double number(const char* key, double least, double most) const;
  std::optional<double> number_or_none(const char* key, double least, double most) const;
  std::vector<double> numbers(const char* key, double least, double most) const;

 private:
  const nlohmann::json& get(const char* key) const;
  [[noreturn]] void wrong(const char* key, const std::string& expected) const;
  std::string file_;
  const nlohmann::json* json_;
  std::string place_;
};

/// What a file that --resume continues must have in common with this run.
struct Resumed {
  std::string kind, command;  ///< "evaluation", "evaluate"
  std::string fingerprint;
  Device device;
  nlohmann::json settings;
};
/// The parsed file. Throws Error(input), naming it, for one that is no JSON object of schema 1 and that kind, or of
/// another version, model, device or setting.
nlohmann::json parse_resumed(const std::string& file, std::string_view text, const Resumed& now);

}  // namespace tqkv::measure
