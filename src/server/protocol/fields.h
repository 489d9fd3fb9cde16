// Members of a JSON object of a request, each read once by its name. A null is an absent member.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "server/protocol/json.h"

namespace tqkv::server {

/// Every function throws ApiError 400 that names the field for a value of another type or out of its range.
class Fields {
 public:
  /// `object` is a member named `where` of a request ("": the request itself).
  explicit Fields(const Json& object, std::string where = {});

  const Json* get(std::string_view name);  ///< null: absent
  std::optional<double> number(std::string_view name, double least, double most);
  std::optional<std::int64_t> integer(std::string_view name, std::int64_t least, std::int64_t most);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::string> text(std::string_view name);
  const Json* array(std::string_view name);
  const Json* object(std::string_view name);
  std::string required_text(std::string_view name);

  /// Throws where the member is there, whatever its value: this program cannot do it.
  void refuse(std::initializer_list<std::string_view> names, std::string_view why);
  /// Members that change nothing here: taken and not spoken of.
  void skip(std::initializer_list<std::string_view> names);
  /// Names of the members that no function asked for, with `where` in front; at most 20.
  std::vector<std::string> unread() const;

  std::string path(std::string_view name) const;  ///< messages[0].content
  [[noreturn]] void wrong(std::string_view name, std::string_view expected) const;

 private:
  const Json& object_;
  std::string where_;
  std::set<std::string, std::less<>> read_;
};

/// The number as an integer, where it is one in value (16.0) and fits into 64 bits.
std::optional<std::int64_t> whole(const Json& value);

}  // namespace tqkv::server
