// What `tqkv generate --json` makes of results that the bundled model does not give.
#include "cli/commands/generate_report.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace {

using namespace tqkv;
using nlohmann::json;

json reported(const GenerateResult& result, const std::optional<std::string>& tools) {
  cli::GenerateReport report;
  report.result = &result;
  return json::parse(cli::report_json(report, tools));
}

TEST_CASE("--json has the tool calls of an answer apart, and the other text as the answer") {
  GenerateResult result;
  result.answer =
      "I look it up.\n\n<tool_call>\n<function=weather>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>";
  const std::string tools =
      R"([{"type": "function", "function": {"name": "weather", "parameters": {"properties": {"days": {"type": "integer"}}}}}])";
  const json object = reported(result, tools);
  CHECK(object["answer"] == "I look it up.");
  CHECK(object["tool_calls"] == json::parse(R"([{"name": "weather", "arguments": {"days": 3}}])"));
  CHECK(object["finish_reason"] == "tool_calls");

  result.reason = FinishReason::length;  // the answer may have had more to say
  CHECK(reported(result, tools)["finish_reason"] == "length");

  const json raw = reported(result, std::nullopt);  // without chat markup it is text
  CHECK(raw["answer"] == result.answer);
  CHECK(raw["tool_calls"] == json::array());
}

}  // namespace
