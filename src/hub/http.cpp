#include "hub/http.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <chrono>
#include <exception>
#include <filesystem>
#include <string>
#include <system_error>

#include "loaders/tensor_names.h"
#include "tqkv/error.h"
#include "tqkv/version.h"

namespace tqkv::hub {
namespace {

/// Where this system keeps its certificate authorities, for a libcurl that was built on another one, as that of a wheel
/// is. Empty: libcurl knows.
std::string system_certificates() {
  const char* own = curl_version_info(CURLVERSION_NOW)->cainfo;
  std::error_code ignored;
  if (own == nullptr || std::filesystem::exists(own, ignored)) return {};
  for (const char* file : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                           "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"})
    if (std::filesystem::exists(file, ignored)) return file;
  return {};
}

constexpr std::size_t most_header_bytes = std::size_t{1} << 18;

struct Library {
  Library() {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
      throw Error(ErrorKind::internal, "libcurl cannot be initialized");
  }
};

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view blank = " \t\r\n";
  const std::size_t first = text.find_first_not_of(blank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

bool never_connected(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_PROXY:
      return true;
    default:
      return false;
  }
}

}  // namespace

void fail_hub(const std::string& message) {
  throw Error(ErrorKind::hub, message);
}

std::string_view Answer::header(std::string_view name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string_view{} : std::string_view(found->second);
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// What the callbacks of one transfer share.
struct Http::Exchange {
  const Request& request;
  const Sink& sink;
  const Stop& stop;
  Answer answer;
  std::size_t header_bytes = 0;
  std::string refusal;  // of something that the answer did
  std::exception_ptr thrown;
  const std::chrono::seconds patience;  // without a byte
  std::chrono::steady_clock::time_point last_byte = std::chrono::steady_clock::now();
  bool stalled = false;

  bool stalls() {
    stalled = std::chrono::steady_clock::now() - last_byte > patience;
    return stalled;
  }

  bool take_header(std::string_view line) {
    header_bytes += line.size();
    if (header_bytes > most_header_bytes) {
      refusal = fmt::format("more than {} bytes of headers came", most_header_bytes);
      return false;
    }
    if (line.starts_with("HTTP/")) {  // a new answer: those before it were interim ones
      answer.headers.clear();
      const std::size_t space = line.find(' ');
      const auto status = parse_number(space == std::string_view::npos ? "" : line.substr(space + 1, 3));
      answer.status = status ? static_cast<int>(*status) : 0;
      return true;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return true;
    std::string name(trimmed(line.substr(0, colon)));
    for (char& c : name)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    answer.headers[name] = trimmed(line.substr(colon + 1));
    return true;
  }

  bool take_body(std::span<const std::byte> bytes) {
    const std::string_view encoding = answer.header("content-encoding");
    if (!encoding.empty() && encoding != "identity") {
      refusal = fmt::format("the answer is encoded as {}, which was not asked for", shown(encoding));
      return false;
    }
    if (sink && (answer.status == 200 || answer.status == 206)) return sink(answer, bytes);
    if (answer.body.size() + bytes.size() > request.body_limit) {
      refusal = fmt::format("the answer has more than {} bytes", request.body_limit);
      return false;
    }
    answer.body.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  }

  /// No exception may pass through libcurl.
  template <class Action>
  bool guarded(const Action& action) {
    last_byte = std::chrono::steady_clock::now();
    try {
      return action();
    } catch (...) {
      thrown = std::current_exception();
      return false;
    }
  }

  static std::size_t on_header(char* data, std::size_t, std::size_t size, void* self) {
    auto& exchange = *static_cast<Exchange*>(self);
    return exchange.guarded([&] { return exchange.take_header({data, size}); }) ? size : 0;
  }
  static std::size_t on_body(char* data, std::size_t, std::size_t size, void* self) {
    auto& exchange = *static_cast<Exchange*>(self);
    if (size == 0) return 0;
    return exchange.guarded([&] { return exchange.take_body(std::as_bytes(std::span(data, size))); }) ? size : 0;
  }
  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    auto& exchange = *static_cast<Exchange*>(self);
    return exchange.stop() || exchange.stalls() ? 1 : 0;
  }
  /// The connection is there: now the answer has its time.
  static int on_connection(void* self, char*, char*, int, int) {
    static_cast<Exchange*>(self)->last_byte = std::chrono::steady_clock::now();
    return CURL_PREREQFUNC_OK;
  }
};

Http::Http(const Settings& settings, const Stop& stop) : settings_(settings), stop_(stop) {
  static const Library library;
  easy_ = curl_easy_init();
  if (easy_ == nullptr) throw Error(ErrorKind::internal, "libcurl gives no handle");
}

Http::~Http() {
  curl_easy_cleanup(easy_);
}

Answer Http::send(const Request& request, const Sink& sink) {
  Exchange exchange{request, sink, stop_, {}, 0, {}, {}, sink ? settings_.stall_timeout : settings_.answer_timeout};
  std::array<char, CURL_ERROR_SIZE> detail{};
  curl_slist* list = curl_slist_append(nullptr, "Accept-Encoding: identity");
  for (const std::string& header : request.headers) list = curl_slist_append(list, header.c_str());
  const std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> headers(list, curl_slist_free_all);

  curl_easy_reset(easy_);  // options only: the connection stays for the next exchange
  const auto set = [&](CURLoption option, auto value) { curl_easy_setopt(easy_, option, value); };
  set(CURLOPT_URL, request.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 0L);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_NOBODY, request.head ? 1L : 0L);
  set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_USERAGENT, fmt::format("tqkv/{}", version).c_str());
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(settings_.answer_timeout.count()));
  set(CURLOPT_PREREQFUNCTION, &Exchange::on_connection);
  set(CURLOPT_PREREQDATA, &exchange);
  set(CURLOPT_BUFFERSIZE, 256L * 1024);
  const std::string certificates = settings_.certificates.empty() ? system_certificates() : settings_.certificates;
  if (!certificates.empty()) set(CURLOPT_CAINFO, certificates.c_str());
  set(CURLOPT_ERRORBUFFER, detail.data());
  set(CURLOPT_HEADERFUNCTION, &Exchange::on_header);
  set(CURLOPT_HEADERDATA, &exchange);
  set(CURLOPT_WRITEFUNCTION, &Exchange::on_body);
  set(CURLOPT_WRITEDATA, &exchange);
  set(CURLOPT_XFERINFOFUNCTION, &Exchange::on_progress);
  set(CURLOPT_XFERINFODATA, &exchange);
  set(CURLOPT_NOPROGRESS, 0L);

  const CURLcode code = stop_() ? CURLE_ABORTED_BY_CALLBACK : curl_easy_perform(easy_);
  if (exchange.thrown) std::rethrow_exception(exchange.thrown);
  if (stop_()) throw Stopped{};
  if (code != CURLE_OK) {
    exchange.answer.failure = !exchange.refusal.empty() ? exchange.refusal
                              : exchange.stalled ? fmt::format("nothing came for {} seconds", exchange.patience.count())
                              : detail[0] != '\0' ? shown(detail.data())
                                                  : curl_easy_strerror(code);
    exchange.answer.refused = !exchange.refusal.empty();
    exchange.answer.unreachable = never_connected(code) || (exchange.stalled && exchange.answer.status == 0) ||
                                  (code == CURLE_OPERATION_TIMEDOUT && exchange.answer.status == 0);
  }
  return std::move(exchange.answer);
}

}  // namespace tqkv::hub
