#include "hub/protocol.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "hub/digest.h"
#include "hub/url.h"
#include "loaders/json.h"
#include "loaders/tensor_names.h"
#include "tqkv/error.h"

namespace tqkv::hub {
namespace {

using nlohmann::json;

constexpr std::size_t longest_listing = std::size_t{1} << 25;
constexpr std::size_t most_files = 100000;
constexpr std::size_t longest_path = 1024;
constexpr std::size_t longest_etag = 128;
constexpr int most_redirects = 5;

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/// Whether a path stays below the folder that it starts in.
bool is_inner_path(std::string_view path) {
  if (path.empty() || path.size() > longest_path) return false;
  while (true) {
    const std::size_t slash = path.find('/');
    if (!plain_file_name(path.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

std::string text_of(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

ListedFile parse_file(const json& entry, std::string_view where) {
  if (!entry.is_object()) fail_hub(fmt::format("{}: lists {}, expected files", where, entry.type_name()));
  ListedFile file;
  file.path = text_of(entry, "rfilename");
  if (!is_inner_path(file.path))
    fail_hub(fmt::format("{}: lists a file \"{}\", which is no path inside a repository", where, shown(file.path)));
  if (const auto size = entry.find("size"); size != entry.end() && size->is_number_unsigned())
    file.bytes = size->get<std::uint64_t>();
  if (const auto lfs = entry.find("lfs"); lfs != entry.end() && lfs->is_object()) {
    file.digest = text_of(*lfs, "sha256");
    if (const auto size = lfs->find("size"); size != lfs->end() && size->is_number_unsigned())
      file.bytes = size->get<std::uint64_t>();
  }
  if (file.digest.empty()) file.digest = text_of(entry, "blobId");
  if (!is_digest(file.digest)) file.digest.clear();
  return file;
}

std::string detail(const Answer& answer) {
  const std::string_view message = answer.header("x-error-message");
  return message.empty() ? "" : fmt::format(": {}", shown(message));
}

}  // namespace

Listing parse_listing(std::string_view text, std::string_view where) {
  const json document = parse_json(text, where, ErrorKind::hub);
  Listing listing;
  listing.commit = text_of(document, "sha");
  if (!is_commit(listing.commit))
    fail_hub(
        fmt::format("{}: gives \"{}\" for the commit, expected 40 hexadecimal digits", where, shown(listing.commit)));
  const auto files = document.find("siblings");
  if (files == document.end() || !files->is_array() || files->size() > most_files)
    fail_hub(fmt::format("{}: has no list of files, or one of more than {}", where, most_files));
  for (const json& entry : *files) listing.files.push_back(parse_file(entry, where));
  return listing;
}

std::optional<std::string> parse_etag(std::string_view header) {
  if (header.starts_with("W/")) header.remove_prefix(2);
  if (header.size() >= 2 && header.front() == '"' && header.back() == '"') header = header.substr(1, header.size() - 2);
  if (header.empty() || header.size() > longest_etag || header.front() == '.') return std::nullopt;
  for (const char c : header) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    if (!plain) return std::nullopt;
  }
  // These endings mean something else in the cache.
  if (header.ends_with(".incomplete") || header.ends_with(".lock")) return std::nullopt;
  return std::string(header);
}

std::optional<ContentRange> parse_content_range(std::string_view header) {
  constexpr std::string_view unit = "bytes ";
  if (!header.starts_with(unit)) return std::nullopt;
  header.remove_prefix(unit.size());
  const std::size_t dash = header.find('-'), slash = header.find('/');
  if (dash == std::string_view::npos || slash == std::string_view::npos || slash < dash) return std::nullopt;
  const auto first = parse_number(header.substr(0, dash));
  const auto last = parse_number(header.substr(dash + 1, slash - dash - 1));
  const auto total = parse_number(header.substr(slash + 1));
  if (!first || !last || *last < *first || (!total && header.substr(slash + 1) != "*")) return std::nullopt;
  if (total && *last >= *total) return std::nullopt;
  return ContentRange{*first, *last, total};
}

bool Patience::wait(std::optional<std::uint64_t> asked) {
  if (++tries_ >= settings_.attempts) return false;
  std::chrono::milliseconds delay = settings_.retry_delay * (1 << std::min(tries_ - 1, 6));
  if (asked) {
    if (*asked > static_cast<std::uint64_t>(settings_.longest_wait.count())) return false;
    delay = std::chrono::seconds(*asked);
  }
  constexpr std::chrono::milliseconds glance{50};
  for (; delay.count() > 0; delay -= glance) {
    if (stop_()) throw Stopped{};
    std::this_thread::sleep_for(std::min(delay, glance));
  }
  return true;
}

std::optional<std::uint64_t> retry_after(const Answer& answer) {
  return parse_number(answer.header("retry-after"));
}

bool is_busy(int status) {
  return status == 408 || status == 429 || status >= 500;
}

Client::Client(const Settings& settings, const Stop& stop)
    : settings_(settings), stop_(stop), http_(settings, stop), origin_(origin_of(settings.endpoint).value_or("")) {}

Answer Client::follow(Request request, bool to_other_hosts, const Http::Sink& sink) {
  const std::vector<std::string> headers = request.headers;
  bool left = false;
  std::map<std::string, std::string, std::less<>> linked;  // what the hub said of the file before it redirected
  for (int hop = 0;; ++hop) {
    const auto origin = origin_of(request.url);
    if (!origin) fail_hub(fmt::format("\"{}\" is no http:// or https:// address", shown(request.url)));
    from_hub_ = *origin == origin_;
    left = left || !from_hub_;
    request.headers = headers;
    if (!left && !settings_.token.empty()) request.headers.push_back("Authorization: Bearer " + settings_.token);
    Answer answer = http_.send(request, sink);
    const std::string location(answer.header("location"));
    for (const char* header : {"x-repo-commit", "x-linked-etag", "x-linked-size"}) {
      if (!left && answer.headers.contains(header)) linked.try_emplace(header, answer.headers[header]);
    }
    answer.headers.insert(linked.begin(), linked.end());
    if (!answer.failure.empty() || !is_redirect(answer.status) || location.empty()) return answer;
    const auto next = join_url(request.url, location);
    if (!next || (request.url.starts_with("https:") && !next->starts_with("https:")))
      fail_hub(fmt::format("{}: redirects to \"{}\", which is no {} address", settings_.endpoint, shown(location),
                           request.url.starts_with("https:") ? "https://" : "http:// or https://"));
    if (!to_other_hosts && origin_of(*next) != origin_) return answer;
    if (hop == most_redirects)
      fail_hub(fmt::format("{}: more than {} redirects in a row", settings_.endpoint, most_redirects));
    request.url = *next;
  }
}

Answer Client::follow_patiently(const Request& request, const std::string& what) {
  Patience patience(settings_, stop_);
  while (true) {
    Answer answer = follow(request, false);
    if (answer.failure.empty() && !is_busy(answer.status)) return answer;
    if (answer.unreachable) fail_hub(fmt::format("{} cannot be reached: {}", settings_.endpoint, answer.failure));
    if (!answer.refused && patience.wait(retry_after(answer))) continue;
    if (!answer.failure.empty()) fail_hub(fmt::format("{}: {}: {}", settings_.endpoint, what, answer.failure));
    fail_hub(fmt::format("{}: {}: the hub answers {}{}: try again later", settings_.endpoint, what, answer.status,
                         detail(answer)));
  }
}

void Client::check(const Answer& answer, const HubName& name, const std::string& path) const {
  const std::string_view code = answer.header("x-error-code");
  const std::string where = settings_.endpoint + ": " + name.text();
  const char* token =
      settings_.token.empty() ? "no token was sent: set HF_TOKEN" : "the token that was sent opens it not";
  if (code == "GatedRepo") fail_hub(fmt::format("{}: is gated: ask for access on its page; {}", where, token));
  if (code == "RevisionNotFound") fail_hub(fmt::format("{}: has no revision \"{}\"", where, name.revision));
  if (code == "EntryNotFound" && !path.empty()) fail_hub(fmt::format("{}: has no file {}", where, shown(path)));
  if (code == "RepoNotFound" || (code.empty() && answer.status == 401) || (answer.status == 404 && path.empty()))
    fail_hub(fmt::format("{}: there is no such repository, or it is private ({})", where, token));
  if (answer.status == 401 || answer.status == 403)
    fail_hub(fmt::format("{}: is refused with {}{} ({})", where, answer.status, detail(answer), token));
  if (answer.status == 404) fail_hub(fmt::format("{}: has no file {}{}", where, shown(path), detail(answer)));
  if (answer.status >= 400 && answer.status != 416 && !is_busy(answer.status))
    fail_hub(fmt::format("{}: is answered with {}{}", where, answer.status, detail(answer)));
}

Listing Client::list(const HubName& name) {
  Request request;
  request.url = fmt::format("{}/api/models/{}/revision/{}?blobs=true", settings_.endpoint, encode_path(name.id),
                            encode_segment(name.revision));
  request.body_limit = longest_listing;
  const Answer answer = follow_patiently(request, "list of files");
  check(answer, name, "");
  if (answer.status != 200)
    fail_hub(
        fmt::format("{}: {}: the list of files is answered with {}", settings_.endpoint, name.text(), answer.status));
  Listing listing = parse_listing(answer.body, fmt::format("{}: {}", settings_.endpoint, name.text()));
  if (is_commit(name.revision) && listing.commit != name.revision)
    fail_hub(fmt::format("{}: {}: gives the commit {} instead", settings_.endpoint, name.text(), listing.commit));
  return listing;
}

FileMetadata Client::metadata(const HubName& name, const std::string& commit, const std::string& path) {
  Request request;
  request.head = true;
  request.url = fmt::format("{}/{}/resolve/{}/{}", settings_.endpoint, encode_path(name.id), commit, encode_path(path));
  const std::string where = fmt::format("{}: {}: {}", settings_.endpoint, name.text(), shown(path));
  const Answer answer = follow_patiently(request, shown(path));
  check(answer, name, path);
  const bool here = answer.status == 200;
  if (!here && !is_redirect(answer.status)) fail_hub(fmt::format("{}: is answered with {}", where, answer.status));
  const std::string_view its_commit = answer.header("x-repo-commit");
  if (!its_commit.empty() && its_commit != commit)
    fail_hub(fmt::format("{}: is of commit \"{}\", asked was {}", where, shown(its_commit), commit));
  // A redirect away from the hub describes the file in its X-Linked headers; its own length is of the redirect.
  const std::string_view linked_etag = answer.header("x-linked-etag"), linked_size = answer.header("x-linked-size");
  const std::string_view etag_text = linked_etag.empty() && here ? answer.header("etag") : linked_etag;
  const std::string_view size_text = linked_size.empty() && here ? answer.header("content-length") : linked_size;
  const auto etag = parse_etag(etag_text);
  if (!etag)
    fail_hub(fmt::format("{}: has the etag \"{}\", which cannot name a file of the cache", where, shown(etag_text)));
  const auto bytes = parse_number(size_text);
  if (!bytes || *bytes > (std::uint64_t{1} << 62))
    fail_hub(fmt::format("{}: has the size \"{}\", which is no number of bytes", where, shown(size_text)));
  return {path, *etag, *bytes};
}

Answer Client::get(const HubName& name, const std::string& commit, const std::string& path, std::uint64_t first,
                   const Http::Sink& sink) {
  Request request;
  request.url = fmt::format("{}/{}/resolve/{}/{}", settings_.endpoint, encode_path(name.id), commit, encode_path(path));
  if (first > 0) request.headers.push_back(fmt::format("Range: bytes={}-", first));
  return follow(request, true, sink);
}

}  // namespace tqkv::hub
