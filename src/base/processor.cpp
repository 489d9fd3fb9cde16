#include "base/processor.h"

#include <algorithm>
#include <fstream>

namespace tqkv {

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
#if defined(__aarch64__)
  return "arm64";
#else
  return "unknown processor";
#endif
}

}  // namespace tqkv
