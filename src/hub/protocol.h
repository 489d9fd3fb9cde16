// What a hub is asked, and what of its answers is believed: revisions, files, their sizes and hashes.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hub/http.h"
#include "hub/settings.h"
#include "loaders/hub.h"
#include "tqkv/pull.h"

namespace tqkv::hub {

/// One file of a repository as the listing names it. Fields that the listing lacks are empty.
struct ListedFile {
  std::string path;  ///< relative, without "." and ".."
  std::optional<std::uint64_t> bytes;
  std::string digest;  ///< sha256 of large files, git's blob hash of small ones
};

struct Listing {
  std::string commit;
  std::vector<ListedFile> files;
};

/// The answer to "/api/models/…": throws Error(hub) that starts with `where` for what is no such answer, and for a path
/// that leads out of a repository.
Listing parse_listing(std::string_view json, std::string_view where);

/// An etag header without "W/" and quotes, or nothing when that is no name for a file.
std::optional<std::string> parse_etag(std::string_view header);

struct ContentRange {
  std::uint64_t first = 0, last = 0;   ///< bytes, both included
  std::optional<std::uint64_t> total;  ///< nothing for "*"
};
/// "bytes 5-9/10"
std::optional<ContentRange> parse_content_range(std::string_view header);

/// Counts tries that bring nothing, and waits between them.
class Patience {
 public:
  Patience(const Settings& settings, const Stop& stop) : settings_(settings), stop_(stop) {}
  void reset() { tries_ = 0; }
  /// Waits, `asked` seconds where a hub said so. False, at once, when there were enough tries or it asks for too much.
  /// Throws Stopped.
  bool wait(std::optional<std::uint64_t> asked = {});

 private:
  const Settings& settings_;
  const Stop& stop_;
  int tries_ = 0;
};

/// Seconds of a Retry-After header; nothing for the form with a date.
std::optional<std::uint64_t> retry_after(const Answer& answer);
/// 408, 429 and every 5xx: worth another try.
bool is_busy(int status);

/// One connection to a hub. Every function throws Error(hub), and Stopped.
class Client {
 public:
  /// Both must outlive it.
  Client(const Settings& settings, const Stop& stop);

  Listing list(const HubName& name);
  /// HEAD of a file. Redirects are followed on the hub's own host and not beyond.
  FileMetadata metadata(const HubName& name, const std::string& commit, const std::string& path);
  /// GET of a file from byte `first` on, redirects followed to any host, one try. The answer may be of any status that
  /// check() lets pass.
  Answer get(const HubName& name, const std::string& commit, const std::string& path, std::uint64_t first,
             const Http::Sink& sink);
  /// Whether the last answer came from the hub's own host.
  bool from_hub() const { return from_hub_; }

  /// Throws for a status that says that this will never be had. `path`: empty for the repository as a whole.
  void check(const Answer& answer, const HubName& name, const std::string& path) const;

 private:
  /// Follows redirects; the token goes to the hub alone.
  Answer follow(Request request, bool to_other_hosts, const Http::Sink& sink = {});
  /// The same again while the hub is busy or the connection breaks.
  Answer follow_patiently(const Request& request, const std::string& what);

  const Settings& settings_;
  const Stop& stop_;
  Http http_;
  std::string origin_;
  bool from_hub_ = true;
};

}  // namespace tqkv::hub
