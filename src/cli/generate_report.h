// What `generate` tells about a run.
#pragma once
#include <cstdint>
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
/// One JSON object on one line, ended by a line break.
std::string report_json(const GenerateReport& report);

}  // namespace tqkv::cli
