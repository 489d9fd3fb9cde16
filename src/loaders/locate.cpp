#include "loaders/locate.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

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

/// Folders of models that come with the program, the nearest first.
std::vector<fs::path> model_folders() {
  std::vector<fs::path> folders;
  if (const fs::path program = executable(); !program.empty())
    folders.push_back(program.parent_path().parent_path() / "share" / "tqkv" / "models");
#if defined(TQKV_SOURCE_MODELS)
  folders.push_back(TQKV_SOURCE_MODELS);
#endif
#if defined(TQKV_INSTALLED_MODELS)
  folders.push_back(TQKV_INSTALLED_MODELS);
#endif
  return folders;
}

/// Where the bundled checkpoint may be, the nearest first.
std::vector<fs::path> pocket_places() {
  if (const char* models = std::getenv("TQKV_MODELS_DIR"); models && *models) return {fs::path(models) / "pocket"};
  std::vector<fs::path> places = model_folders();
  for (fs::path& place : places) place /= "pocket";
  return places;
}

[[noreturn]] void fail(std::string_view model, const std::string& what) {
  throw Error(ErrorKind::checkpoint, fmt::format("{}: {}", model.empty() ? "\"\"" : shown(model), what));
}

}  // namespace

fs::path locate_model(std::string_view model) {
  constexpr std::string_view forms =
      "give a directory, org/name[@revision] on the Hugging Face hub, or pocket, the bundled model";
  if (model.empty()) fail(model, fmt::format("no model was named: {}", forms));
  if (model.find('\0') != std::string_view::npos) fail(model, fmt::format("has a zero byte in it: {}", forms));
  std::error_code error;
  if (model == "pocket") {
    std::vector<std::string> searched;
    for (const fs::path& place : pocket_places()) {
      if (fs::is_directory(place, error)) return place;
      searched.push_back(place.string());
    }
    fail(model,
         fmt::format("the bundled model is not there; searched {}; set TQKV_MODELS_DIR to the folder that contains it",
                     fmt::join(searched, ", ")));
  }
  fs::path path(model);
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) return path;
  if (error == std::errc::permission_denied) fail(model, error.message());
  if (fs::exists(status)) fail(model, "is a file, expected the directory of a checkpoint");
  if (const auto name = parse_hub_name(model)) return find_in_hub_cache(*name, hub_cache());
  fail(model, fmt::format("there is no such directory: {}. 'tqkv models' lists what is in the cache", forms));
}

fs::path locate_evaluation_text() {
  std::error_code error;
  std::vector<std::string> searched;
  for (const fs::path& folder : model_folders()) {
    fs::path file = folder / "texts" / "documents.txt";
    if (fs::is_regular_file(file, error)) return file;
    searched.push_back(file.string());
  }
  throw Error(ErrorKind::io, fmt::format("the bundled text is not there; searched {}: give a text with --text",
                                         fmt::join(searched, ", ")));
}

}  // namespace tqkv
