// Which hashes the files of a model are compared with.
#include <fmt/format.h>

#include <system_error>

#include "hub/settings.h"
#include "hub/verify.h"
#include "tqkv/error.h"

namespace tqkv::hub {
namespace {

namespace fs = std::filesystem;

ExpectedFiles expected_of_folder(const fs::path& folder) {
  if (auto expected = expected_files(folder)) return *expected;
  // A checkpoint that is known is recognized by its config.
  std::error_code error;
  if (fs::is_regular_file(folder / "config.json", error))
    if (const PublishedCheckpoint* published = published_with_config(sha256_of(folder / "config.json")))
      return expected_files(*published);
  throw Error(ErrorKind::checkpoint,
              fmt::format("{}: is no checkpoint whose hashes are recorded: say with --against org/name whose files it "
                          "should have",
                          folder.string()));
}

}  // namespace

ExpectedFiles expected_files(const HubName& name, bool online, const std::atomic<bool>* cancel) {
  const PublishedCheckpoint* published = published_checkpoint(name.id);
  if (!online && published != nullptr && (name.revision == "main" || name.revision == published->revision))
    return expected_files(*published);
  return expected_files(settings_from_environment(), name, cancel);
}

ExpectedFiles expected_files_of(std::string_view model, const fs::path& folder, bool online,
                                const std::atomic<bool>* cancel) {
  const auto name = parse_hub_name(model);
  std::error_code error;
  if (!name || fs::exists(model, error)) return expected_of_folder(folder);
  // The commit that is here, whatever the branch has become since.
  const HubName here{name->id, folder.filename().string()};
  if (online) return expected_files(here, true, cancel);
  const PublishedCheckpoint* published = published_checkpoint(here.id);
  if (published != nullptr && published->revision == here.revision) return expected_files(*published);
  return expected_of_folder(folder);
}

}  // namespace tqkv::hub
