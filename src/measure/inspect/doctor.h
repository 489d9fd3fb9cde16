// What `tqkv doctor` finds: this machine, the devices that the program can use on it, and what to do where something is
// in the way. It needs no model.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tqkv::measure {

/// What is in the way, and what to do about it.
struct Warning {
  std::string problem, remedy;
};

struct DeviceFinding {
  std::string name;
  std::string missing;                                     ///< why it cannot be used, and how to change that; or empty
  std::string device;                                      ///< canonical string of what runs by default
  std::vector<std::pair<std::string, std::string>> facts;  ///< in the order in which they are shown
};

struct Diagnosis {
  std::string processor, system;
  int cores = 0;                            ///< that this process may use
  std::uint64_t memory = 0, available = 0;  ///< bytes, of the machine or its container
  double read_gb_s = 0;                     ///< reading memory with all cores, 10^9 bytes per second
  std::vector<DeviceFinding> devices;       ///< in the order of the table
  std::vector<std::pair<int, std::vector<std::pair<std::string, std::uint64_t>>>>
      caches;  ///< by tokens: format and bytes of keys and values, 35B shape
  std::vector<Warning> warnings;
};

/// Takes less than a second.
Diagnosis diagnose();
std::string to_text(const Diagnosis& diagnosis);
std::string to_json(const Diagnosis& diagnosis);

}  // namespace tqkv::measure
