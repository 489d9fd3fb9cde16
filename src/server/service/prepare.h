// From a request to jobs: its prompt as ids, and how it is sampled.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/protocol/request.h"
#include "server/schedule/job.h"
#include "tqkv/model.h"

namespace tqkv::server {

struct ServeSettings {
  KvFormat format;     ///< where a request asks for none
  int piece = 256;     ///< most ids of a piece of a prompt
  int context = 0;     ///< most tokens of a request
  bool exact = false;  ///< states of answers are never reused
  std::string markup;  ///< of the chat; empty: the model's
};

/// Ends an answer behind its first call, where a request wants no calls next to it.
inline constexpr std::string_view end_of_call = "</tool_call>";

/// The ids of a request's conversation.
std::vector<int> chat_ids(const Model& model, const ServeSettings& settings, const Request& request);

/// A job for each prompt of the request, without listeners. `seed` where the request has none. Throws ApiError.
std::vector<std::shared_ptr<Job>> prepare(const Model& model, const ServeSettings& settings, const Request& request,
                                          std::uint64_t seed);

}  // namespace tqkv::server
