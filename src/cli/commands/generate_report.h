// What `generate` tells about a run.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tqkv/engine.h"
#include "tqkv/generate.h"

namespace tqkv::cli {

struct GenerateReport {
  std::string model;
  DeviceReport device;
  Sampling sampling;
  std::uint64_t weights = 0;  // bytes mapped
  std::uint64_t planned = 0;  // bytes of anonymous memory
  int context = 0;            // tokens
  int restored = 0;           // tokens of a saved session
  double startup = 0;         // seconds from the start of the program to the first token fed
  const GenerateResult* result = nullptr;
};

/// Lines for standard error, each ended by a line break.
std::string statistics_text(const GenerateReport& report);
/// One JSON object on one line, ended by a line break. Tool calls are taken out of the answer; `tools` are those that
/// the model was given (parse_tool_calls), nothing where the text has no chat markup.
std::string report_json(const GenerateReport& report, const std::optional<std::string>& tools);

}  // namespace tqkv::cli
