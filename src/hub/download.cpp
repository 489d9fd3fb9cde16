#include "hub/download.h"

#include <fmt/format.h>

#include "hub/incomplete_file.h"
#include "loaders/tensor_names.h"
#include "tqkv/error.h"

namespace tqkv::hub {
namespace {

/// The tries that it takes to get one file.
class Download {
 public:
  Download(Client& client, const Settings& settings, const Stop& stop, const HubName& name, const std::string& commit,
           const FileMetadata& file, IncompleteFile& incomplete, Transfer& transfer)
      : client_(client),
        name_(name),
        commit_(commit),
        file_(file),
        incomplete_(incomplete),
        transfer_(transfer),
        patience_(settings, stop),
        where_(fmt::format("{}: {}: {}", settings.endpoint, name.text(), shown(file.path))),
        resumed_(incomplete.size() > 0) {}

  void run() {
    while (true) {
      while (incomplete_.size() < file_.bytes) fetch_more();
      const std::string digest = incomplete_.digest();
      if (digest.empty() || digest == file_.etag) return;
      drop();
      // What another run left may have been damaged since; what came in one piece is what the hub has.
      if (!resumed_)
        fail_hub(fmt::format("{}: what came has the hash {}, but {} was announced: it was thrown away", where_, digest,
                             file_.etag));
      resumed_ = false;
    }
  }

 private:
  void fetch_more() {
    const std::uint64_t before = incomplete_.size();
    checked_ = false;
    const Answer answer =
        client_.get(name_, commit_, file_.path, before,
                    [&](const Answer& head, std::span<const std::byte> bytes) { return take(head, before, bytes); });
    if (answer.refused) refusal_ = answer.failure;
    if (!refusal_.empty()) fail_hub(fmt::format("{}: {}", where_, refusal_));
    if (incomplete_.size() == file_.bytes) return;
    if (incomplete_.size() > before) {
      patience_.reset();
      return;
    }
    if (answer.failure.empty() && answer.status == 416) {  // "what you have is all": then it is of something else
      drop();
    } else if (answer.failure.empty() && !is_busy(answer.status)) {
      // A link to another host expires: the hub gives a new one. What the hub itself refuses stays refused.
      if (client_.from_hub()) client_.check(answer, name_, file_.path);
    }
    if (patience_.wait(retry_after(answer))) return;
    if (!answer.failure.empty()) fail_hub(fmt::format("{}: the connection fails: {}", where_, answer.failure));
    fail_hub(fmt::format("{}: is answered with {} again and again: try again later", where_, answer.status));
  }

  /// The sink of one answer to a request from byte `first` on.
  bool take(const Answer& head, std::uint64_t first, std::span<const std::byte> bytes) {
    if (!started(head, first)) return false;
    if (bytes.size() > file_.bytes - incomplete_.size()) {
      refusal_ = fmt::format("sends more than the {} bytes that were announced", file_.bytes);
      return false;
    }
    incomplete_.append(bytes);
    transfer_.kept += bytes.size();
    transfer_.received += bytes.size();
    return true;
  }

  /// Checks, before the first byte of an answer, what its header says of the body.
  bool started(const Answer& head, std::uint64_t first) {
    if (checked_) return true;
    checked_ = true;
    if (head.status == 206) {
      const auto range = parse_content_range(head.header("content-range"));
      if (!range || range->first != first || (range->total && *range->total != file_.bytes))
        refusal_ = fmt::format("answers \"{}\" for the bytes from {} on of {}", shown(head.header("content-range")),
                               first, file_.bytes);
    } else {  // the whole file, whatever was asked for
      const auto length = parse_number(head.header("content-length"));
      if (length && *length != file_.bytes)
        refusal_ = fmt::format("sends {} bytes, but {} were announced", *length, file_.bytes);
      else if (incomplete_.size() > 0)
        drop();
    }
    return refusal_.empty();
  }

  void drop() {
    transfer_.kept -= incomplete_.size();
    incomplete_.restart();
  }

  Client& client_;
  const HubName& name_;
  const std::string& commit_;
  const FileMetadata& file_;
  IncompleteFile& incomplete_;
  Transfer& transfer_;
  Patience patience_;
  std::string where_;
  std::string refusal_;   // why an answer is not taken, whatever else happens
  bool checked_ = false;  // the header of the answer that comes
  bool resumed_;
};

}  // namespace

void download(Client& client, const Settings& settings, const Stop& stop, const HubName& name,
              const std::string& commit, const FileMetadata& file, std::uint64_t kept, const RepositoryCache& cache,
              Transfer& transfer, const std::function<void()>& waiting) {
  const auto whole = [&] {
    if (!cache.has_blob(file.etag, file.bytes)) return false;
    transfer.kept += file.bytes - kept;
    return true;
  };
  std::error_code error;
  if (!std::filesystem::exists(cache.incomplete(file.etag), error) && whole()) return;
  const FileLock lock(cache.lock(file.etag), stop, waiting);
  if (whole()) {  // another process was faster, and may have gone its own way
    std::filesystem::remove(cache.incomplete(file.etag), error);
    return;
  }
  IncompleteFile incomplete(cache.incomplete(file.etag), file.etag, file.bytes, stop);
  transfer.kept += incomplete.size() - kept;
  Download(client, settings, stop, name, commit, file, incomplete, transfer).run();
  incomplete.complete(cache.blob(file.etag));
}

}  // namespace tqkv::hub
