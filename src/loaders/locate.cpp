#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#if defined(__APPLE__)
#include <mach-o/dyld.h>
#endif

#include "loaders/hub.h"
#include "loaders/tensor_names.h"
#include "tqkv/checkpoint.h"
#include "tqkv/error.h"
#include "tqkv/evaluate.h"

namespace tqkv {
namespace {

namespace fs = std::filesystem;

fs::path executable() {
#if defined(__APPLE__)
  char buffer[4096];
  std::uint32_t size = sizeof buffer;
  std::error_code error;
  return _NSGetExecutablePath(buffer, &size) == 0 ? fs::canonical(buffer, error) : fs::path();
#else
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error);
#endif
}

/// Folders that may hold the bundled checkpoint, the nearest first.
std::vector<fs::path> bundled_places() {
  std::vector<fs::path> places;
  if (const char* models = std::getenv("TQKV_MODELS_DIR"); models && *models) return {fs::path(models) / "pocket"};
  if (const fs::path program = executable(); !program.empty())
    places.push_back(program.parent_path().parent_path() / "share" / "tqkv" / "models" / "pocket");
#if defined(TQKV_SOURCE_MODELS)
  places.push_back(fs::path(TQKV_SOURCE_MODELS) / "pocket");
#endif
#if defined(TQKV_INSTALLED_MODELS)
  places.push_back(fs::path(TQKV_INSTALLED_MODELS) / "pocket");
#endif
  return places;
}

/// The folder of the documents and the file to read before them, in the nearest place that has both.
struct Documents {
  fs::path first, folder;
};
std::vector<Documents> document_places() {
  std::vector<Documents> places;
  const auto installed = [&](const fs::path& folder) { places.push_back({folder / "README.md", folder}); };
  if (const fs::path program = executable(); !program.empty())
    installed(program.parent_path().parent_path() / "share" / "tqkv" / "docs");
#if defined(TQKV_SOURCE_MODELS)
  const fs::path sources = fs::path(TQKV_SOURCE_MODELS).parent_path();
  places.push_back({sources / "README.md", sources / "docs"});
#endif
#if defined(TQKV_INSTALLED_MODELS)
  installed(fs::path(TQKV_INSTALLED_MODELS).parent_path() / "docs");
#endif
  return places;
}

[[noreturn]] void fail(std::string_view model, const std::string& what) {
  throw Error(ErrorKind::checkpoint, fmt::format("{}: {}", model.empty() ? "\"\"" : shown(model), what));
}

}  // namespace

fs::path locate_model(std::string_view model) {
  constexpr std::string_view forms = "a model is a directory, org/name[@revision] of the Hugging Face hub, or pocket";
  if (model.empty()) fail(model, fmt::format("is no model; {}", forms));
  if (model.find('\0') != std::string_view::npos) fail(model, fmt::format("has a zero byte in it; {}", forms));
  std::error_code error;
  if (model == "pocket") {
    std::vector<std::string> searched;
    for (const fs::path& place : bundled_places()) {
      if (fs::is_directory(place, error)) return place;
      searched.push_back(place.string());
    }
    fail(model, fmt::format(
                    "the bundled checkpoint is not there; searched {}; set TQKV_MODELS_DIR to the folder that holds it",
                    fmt::join(searched, ", ")));
  }
  fs::path path(model);
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) return path;
  if (fs::exists(status)) fail(model, "is a file, expected the directory of a checkpoint");
  if (const auto name = parse_hub_name(model)) return find_in_hub_cache(*name, hub_cache());
  fail(model, fmt::format("there is no such directory; {}", forms));
}

std::vector<fs::path> locate_documents() {
  std::error_code error;
  std::vector<std::string> searched;
  for (const Documents& place : document_places()) {
    searched.push_back(place.folder.string());
    if (!fs::is_regular_file(place.first, error) || !fs::is_directory(place.folder, error)) continue;
    std::vector<fs::path> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(place.folder, error)) {
      if (entry.path().extension() == ".md" && entry.path() != place.first) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    files.insert(files.begin(), place.first);
    return files;
  }
  throw Error(ErrorKind::io, fmt::format("the project's documents are not there; searched {}: give a text with --text",
                                         fmt::join(searched, ", ")));
}

}  // namespace tqkv
