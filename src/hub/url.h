// Addresses: taken apart, put together and compared by libcurl's own parser, so that what is checked is what is used.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace tqkv::hub {

/// Every byte that has a meaning in a path is written %XX, slashes too: "refs/pr/1" becomes "refs%2Fpr%2F1".
std::string encode_segment(std::string_view segment);
/// The same for each segment of a path; slashes stay.
std::string encode_path(std::string_view path);

/// "https://host:443", in lower case: two addresses are of one host when these are equal. Nothing for what is no http
/// or https address, or has a user or password in it.
std::optional<std::string> origin_of(const std::string& url);

/// Where a redirect from `base` to `location` leads; nothing under the conditions of origin_of().
std::optional<std::string> join_url(const std::string& base, const std::string& location);

}  // namespace tqkv::hub
