// How a Hugging Face hub is reached. Implemented in src/hub; pull.h and verify.h use it.
#pragma once
#include <chrono>
#include <filesystem>
#include <string>

namespace tqkv::hub {

struct Settings {
  std::string endpoint = "https://huggingface.co";  ///< scheme, host and path, without a slash at the end
  std::string token;                                ///< sent to the endpoint's host only; empty: none
  std::string offline;                              ///< the variable that forbids the network; empty: none does
  std::filesystem::path cache;
  std::string certificates;                    ///< file of certificate authorities; empty: the system's
  std::chrono::seconds answer_timeout{10};     ///< for a connection, and for the answer to begin
  std::chrono::seconds stall_timeout{10};      ///< without a byte, after which a transfer counts as cut
  std::chrono::milliseconds retry_delay{500};  ///< before the first new try; doubled for every one after it
  std::chrono::seconds longest_wait{120};      ///< that a hub may ask for before another try
  int attempts = 6;                            ///< in a row that bring nothing
  int connections = 4;                         ///< files at once
};

/// From HF_ENDPOINT, HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_TOKEN_PATH, HF_HUB_DISABLE_IMPLICIT_TOKEN, HF_HUB_OFFLINE,
/// TRANSFORMERS_OFFLINE, HF_HUB_ETAG_TIMEOUT, HF_HUB_DOWNLOAD_TIMEOUT, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE,
/// HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME and XDG_CACHE_HOME. Proxies are libcurl's matter. Throws Error(hub) for
/// a value that cannot be used.
Settings settings_from_environment();

}  // namespace tqkv::hub
