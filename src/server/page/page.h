// The page that a browser shows of the server: one file of HTML, with its script and its style.
#pragma once
#include <string>
#include <string_view>

namespace tqkv::server {

/// UTF-8, for text/html.
std::string_view page_html();
/// The same, as gzip.
std::string_view page_gzip();
/// The header Content-Security-Policy for it: its own script and style run, and it speaks to this server alone.
const std::string& page_policy();

}  // namespace tqkv::server
