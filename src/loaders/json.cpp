#include "loaders/json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace tqkv {

std::string json_problem(const std::exception& problem) {
  std::string_view detail = problem.what();
  if (const std::size_t end = detail.find("] "); detail.starts_with("[json.") && end != std::string_view::npos)
    detail.remove_prefix(end + 2);
  return std::string(detail);
}

nlohmann::json parse_json(std::string_view text, std::string_view where, ErrorKind kind, int max_depth) {
  using nlohmann::json;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  const auto check = [&](int depth, json::parse_event_t event, json& value) {
    switch (event) {
      case json::parse_event_t::object_start:
        keys.emplace_back();
        [[fallthrough]];
      case json::parse_event_t::array_start:
        if (depth >= max_depth)
          throw Error(kind,
                      fmt::format("{}: is nested deeper than {} levels, which no such file is", where, max_depth));
        break;
      case json::parse_event_t::object_end:
        keys.pop_back();
        break;
      case json::parse_event_t::key:
        if (!keys.back().insert(value.get<std::string>()).second)
          throw Error(kind, fmt::format("{}: names \"{}\" twice in one object", where, value.get<std::string>()));
        break;
      default:
        break;
    }
    return true;
  };
  json document;
  try {
    document = json::parse(text.begin(), text.end(), check);
  } catch (const json::exception& problem) {
    throw Error(kind, fmt::format("{}: is not valid JSON: {}", where, json_problem(problem)));
  }
  if (!document.is_object())
    throw Error(kind, fmt::format("{}: contains {} at the top, expected an object", where, document.type_name()));
  return document;
}

}  // namespace tqkv
