#include "server/service/metrics.h"

#include <fmt/format.h>

#include <iterator>
#include <string_view>

namespace tqkv::server {

void Totals::add(const Account& account) {
  ++(account.gone ? left : account.failed ? failed : answered);
  const auto microseconds = [](double seconds) { return static_cast<std::uint64_t>(seconds * 1e6); };
  first_token_us += microseconds(account.first_token_s);
  seconds_us += microseconds(account.seconds);
  queued_us += microseconds(account.queued_s);
}

std::string metrics_text(const Totals& totals, const SchedulerState& state, std::size_t connections) {
  std::string text;
  const auto put = [&](std::string_view name, std::string_view type, std::string_view help, auto value,
                       std::string_view label = {}) {
    if (!help.empty())
      fmt::format_to(std::back_inserter(text), "# HELP tqkv_{0} {1}\n# TYPE tqkv_{0} {2}\n", name, help, type);
    fmt::format_to(std::back_inserter(text), "tqkv_{}{} {}\n", name, label, value);
  };
  put("requests_total", "counter", "Requests by how they ended", totals.answered.load(), "{end=\"answered\"}");
  put("requests_total", "counter", "", totals.left.load(), "{end=\"left\"}");
  put("requests_total", "counter", "", totals.failed.load(), "{end=\"failed\"}");
  put("requests_total", "counter", "", totals.refused.load(), "{end=\"refused\"}");
  const auto seconds = [](const std::atomic<std::uint64_t>& sum) { return static_cast<double>(sum.load()) / 1e6; };
  put("first_token_seconds_sum", "counter", "Seconds to the first token, over all requests",
      seconds(totals.first_token_us));
  put("request_seconds_sum", "counter", "Seconds of all requests", seconds(totals.seconds_us));
  put("queue_seconds_sum", "counter", "Seconds in the queue, over all requests", seconds(totals.queued_us));
  put("prompt_tokens_total", "counter", "Tokens of prompts that were computed", state.prompt_tokens);
  put("reused_tokens_total", "counter", "Tokens of prompts that were known", state.reused_tokens);
  put("generated_tokens_total", "counter", "Tokens of answers", state.generated_tokens);
  put("steps_total", "counter", "Passes over the weights", state.steps);
  put("requests", "gauge", "Requests by what they do", state.queued, "{state=\"queued\"}");
  put("requests", "gauge", "", state.reading, "{state=\"reading\"}");
  put("requests", "gauge", "", state.decoding, "{state=\"decoding\"}");
  put("requests", "gauge", "", state.paused, "{state=\"paused\"}");
  put("promised_bytes", "gauge", "Memory promised to requests under way", state.promised);
  put("kept_bytes", "gauge", "Memory of kept prefixes", state.kept);
  put("kept_states", "gauge", "Kept prefixes", state.states);
  put("connections", "gauge", "Open connections", connections);
  return text;
}

}  // namespace tqkv::server
