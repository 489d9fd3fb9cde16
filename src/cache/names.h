// Short names of formats, for tables and figures.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tqkv::cache {

/// The part of a format string in front of its first colon.
std::string backend_of(std::string_view format);

/// A short name of each format: its backend, and every key that is not the backend's default or that tells it from
/// another format of the list. "mlx_quant", "turboquant 3/2", "trellis 4 mean=64"; "default" for what runs when no
/// format is named. So a backend's name alone is always its default. Equal formats get equal names, others different
/// ones. A string that is no format keeps all its keys.
std::map<std::string, std::string> short_names(const std::vector<std::string>& formats);

}  // namespace tqkv::cache
