// What a hub may send, any bytes: listings are parsed or refused with an Error(hub), and nothing that was parsed leads
// out of the cache. The first byte chooses the parser.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "hub/protocol.h"
#include "hub/url.h"
#include "tqkv/error.h"

namespace {

void require(bool what) {
  if (!what) std::abort();
}

void listing(std::string_view text) {
  try {
    const auto parsed = tqkv::hub::parse_listing(text, "fuzz");
    require(tqkv::is_commit(parsed.commit));
    for (const auto& file : parsed.files) {
      require(!file.path.empty() && file.path.front() != '/');
      require(("/" + file.path + "/").find("/../") == std::string::npos);
    }
  } catch (const tqkv::Error& error) {
    require(error.kind() == tqkv::ErrorKind::hub);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0]) {
    case 'e':
      if (const auto etag = tqkv::hub::parse_etag(text))
        require(!etag->empty() && etag->front() != '.' && etag->find('/') == std::string::npos);
      break;
    case 'r':
      if (const auto range = tqkv::hub::parse_content_range(text))
        require(range->first <= range->last && (!range->total || range->last < *range->total));
      break;
    case 'u':
      if (const auto url = tqkv::hub::join_url("https://hub.example/a/b?c", std::string(text)))
        require(tqkv::hub::origin_of(*url).has_value());
      break;
    case 'n':
      if (const auto name = tqkv::parse_hub_name(text))
        require(("/" + name->revision + "/").find("/../") == std::string::npos && name->revision.front() != '/');
      break;
    default:
      listing(text);
  }
  return 0;
}
