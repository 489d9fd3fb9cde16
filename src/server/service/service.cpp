#include "server/service/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "base/stopwatch.h"
#include "server/page/page.h"
#include "server/prefix/prefix_files.h"
#include "server/service/answering.h"
#include "server/service/metrics.h"

namespace tqkv::server {
namespace {

using Exchange = std::shared_ptr<http::Exchange>;

constexpr std::size_t most_unread = 1024;  // requests that wait to be read

std::int64_t unix_time() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// What wakes a thread that waits.
class Bell {
 public:
  void ring() {
    {
      const std::lock_guard lock(mutex_);
      rung_ = true;
    }
    condition_.notify_all();
  }
  /// Until it rings, or `most` has passed.
  void wait(std::chrono::milliseconds most) {
    std::unique_lock lock(mutex_);
    condition_.wait_for(lock, most, [&] { return rung_; });
    rung_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool rung_ = false;
};

Request parsed(Route route, std::string_view body) {
  switch (route) {
    case Route::completions:
      return parse_completion(body);
    case Route::responses:
      return parse_responses(body);
    case Route::messages:
      return parse_messages(body);
    case Route::count_tokens:
      return parse_count_tokens(body);
    default:
      return parse_chat(body);
  }
}

http::Answer page_answer(const http::Head& head) {
  const bool compressed = head.header("Accept-Encoding").find("gzip") != std::string_view::npos;
  http::Answer answer{200,
                      "text/html; charset=utf-8",
                      std::string(compressed ? page_gzip() : page_html()),
                      {{"Content-Security-Policy", page_policy()},
                       {"X-Content-Type-Options", "nosniff"},
                       {"Referrer-Policy", "no-referrer"},
                       {"Cache-Control", "no-cache"},
                       {"Vary", "Accept-Encoding"}}};
  if (compressed) answer.headers.emplace_back("Content-Encoding", "gzip");
  return answer;
}

http::Answer json_answer(std::string body) {
  return {200, "application/json", std::move(body), {}};
}

}  // namespace

struct Service::Parts {
  const ServiceOptions options;
  const std::int64_t created = unix_time();
  std::atomic<const Model*> model{nullptr};
  std::atomic<bool> draining{false}, ended{false};
  std::atomic<bool> listening{false};
  Totals totals;
  std::unique_ptr<Scheduler> scheduler;  // behind what its listeners use; seen by others once there is a model
  std::unique_ptr<PrefixFiles> files;
  Bell engine_bell, reader_bell;
  std::mutex mutex;  // of what follows
  std::deque<Exchange> unread;
  std::set<std::string> noted;  // words of requests that were told already
  std::uint64_t answers = 0;
  std::mt19937_64 random{std::random_device{}()};
  std::thread engine_thread, reader_thread;
  std::unique_ptr<http::Server> http;  // last: its thread uses the others

  explicit Parts(ServiceOptions given) : options(std::move(given)) {}

  void log(std::string_view line) const {
    if (options.log) options.log(line);
  }

  ModelEntry entry() const {
    return {options.name, created, options.limits.context, options.settings.format.canonical()};
  }

  bool named(std::string_view asked) const {
    const std::string_view name = options.name;
    return asked.empty() || asked == name || asked == "tqkv" || asked == name.substr(name.rfind('/') + 1);
  }

  std::optional<ApiError> not_ready() const {
    if (draining) return ApiError(503, "overloaded_error", "the server is about to end");
    if (!model) return ApiError(503, "overloaded_error", "the model is being loaded");
    return std::nullopt;
  }

  SchedulerState state() const { return model ? scheduler->state() : SchedulerState{}; }
  std::optional<http::Answer> check(const http::Head& head);
  void handle(Exchange exchange);
  std::string plan() const;
  void read_requests();
  void read(const Exchange& exchange);
  void begin(const Exchange& exchange, Route route, Request request);
  void tell_of(const Account& account);
  void note_words(const Request& request);
  void compute();
};

std::optional<http::Answer> Service::Parts::check(const http::Head& head) {
  const Route route = route_of(head.path);
  std::optional<ApiError> error = refusal_of(head, options.access);
  const bool posts = head.method == "POST";
  if (!error && posts) error = not_ready();
  if (!error) return std::nullopt;
  ++totals.refused;
  return answer_of(*error, route);
}

void Service::Parts::handle(Exchange exchange) {
  const Route route = route_of(exchange->head().path);
  switch (route) {
    case Route::health: {
      const bool well = model && !draining;
      return exchange->answer({well ? 200 : 503,
                               "application/json",
                               health_text(draining ? "draining"
                                           : model  ? "ok"
                                                    : "loading"),
                               {}});
    }
    case Route::metrics:
      return exchange->answer({200,
                               "text/plain; version=0.0.4; charset=utf-8",
                               metrics_text(totals, state(), listening ? http->connections() : 0),
                               {}});
    case Route::plan:
      return exchange->answer(json_answer(plan()));
    case Route::models:
      return exchange->answer(json_answer(models_text({entry()})));
    case Route::model: {
      const std::string name = exchange->head().path.substr(std::string_view("/v1/models/").size());
      if (!named(name)) return exchange->answer(answer_of(unknown_model(name), route));
      return exchange->answer(json_answer(model_text(entry())));
    }
    case Route::page:
      return exchange->answer(page_answer(exchange->head()));
    default:
      break;
  }
  {
    const std::lock_guard lock(mutex);
    if (unread.size() < most_unread) {
      unread.push_back(std::move(exchange));
      reader_bell.ring();
      return;
    }
  }
  ++totals.refused;
  exchange->answer(
      answer_of(ApiError(429, "rate_limit_error", "too many requests wait", std::nullopt, "queue_full"), route));
}

std::string Service::Parts::plan() const {
  const SchedulerState now = state();
  const SchedulerLimits& limits = options.limits;
  return plan_text({{"weights", options.weights, options.weights},
                    {"working memory", options.scratch, options.scratch},
                    {"requests", limits.memory - std::min(limits.memory, limits.prefix_cache), now.promised},
                    {"kept prefixes, keys and values", limits.prefix_cache, now.kept - now.kept_states},
                    {"kept prefixes, states", 0, now.kept_states}},
                   0);
}

void Service::Parts::read_requests() {
  while (!ended) {
    Exchange next;
    {
      const std::lock_guard lock(mutex);
      if (!unread.empty()) {
        next = std::move(unread.front());
        unread.pop_front();
      }
    }
    if (!next) {
      reader_bell.wait(std::chrono::milliseconds(1000));
      continue;
    }
    if (!next->gone()) read(next);
  }
}

void Service::Parts::read(const Exchange& exchange) {
  const Route route = route_of(exchange->head().path);
  try {
    if (const std::optional<ApiError> error = not_ready()) throw *error;
    const Tokenizer& tokenizer = model.load()->tokenizer();
    if (route == Route::tokenize) {
      const std::vector<int> ids = tokenizer.encode(parse_tokenize(exchange->body()), ControlStrings::plain);
      return exchange->answer(json_answer(tokens_text(ids)));
    }
    if (route == Route::detokenize) {
      const std::vector<int> ids = parse_detokenize(exchange->body());
      return exchange->answer(json_answer(content_text(tokenizer.decode(ids))));
    }
    Request request = parsed(route, exchange->body());
    if (!named(request.model)) throw unknown_model(request.model);
    note_words(request);
    if (route == Route::count_tokens) {
      const std::vector<int> ids = chat_ids(*model, options.settings, request);
      return exchange->answer(json_answer(count_text(static_cast<int>(ids.size()))));
    }
    begin(exchange, route, std::move(request));
  } catch (const ApiError& error) {
    ++totals.refused;
    log(fmt::format("refused with {}: {}", error.status, error.what()));
    exchange->answer(answer_of(error, route));
  } catch (const std::exception& error) {
    ++totals.failed;
    log(fmt::format("a request failed: {}", error.what()));
    exchange->answer(answer_of(ApiError(500, "api_error", "the server has failed at this request"), route));
  }
}

void Service::Parts::begin(const Exchange& exchange, Route route, Request request) {
  std::uint64_t seed = 0;
  std::string id;
  {
    const std::lock_guard lock(mutex);
    seed = random() >> 11;  // numbers of JSON have 53 bits
    id = fmt::format("{:x}{:04x}", random() >> 16, ++answers);
  }
  const std::vector<std::shared_ptr<Job>> jobs = prepare(*model, options.settings, request, seed);
  // Refused before a stream begins: then the status says it, and clients ask again.
  for (const auto& job : jobs)
    if (const std::string problem = scheduler->problem_of(*job); !problem.empty()) throw bad_request({}, problem);
  const ApiError full(429, "rate_limit_error", "too many requests wait", std::nullopt, "queue_full");
  if (!scheduler->takes(static_cast<int>(jobs.size()))) throw full;
  Answering::Setup setup;
  setup.id = id;
  setup.route = route;
  setup.head = head_of(request, id, unix_time(), options.name);
  setup.cache = jobs.front()->format.canonical();
  setup.seed = jobs.front()->options.sampling.seed;
  setup.tools = request.tool_choice == ToolChoice::none ? std::string() : std::string(request.tools());
  setup.opens_thinking = jobs.front()->options.opens_thinking;
  setup.think_end = model.load()->tokenizer().control_id("</think>");
  if (request.echo)
    for (const auto& job : jobs) setup.echoes.push_back(model.load()->tokenizer().decode(job->prompt));
  const auto answering = std::make_shared<Answering>(exchange, model.load()->tokenizer(), std::move(setup),
                                                     [this](const Account& account) { tell_of(account); });
  answering->attach(jobs);
  exchange->on_gone([this, jobs] {
    for (const auto& job : jobs) job->cancelled = true;
    engine_bell.ring();
  });
  if (!scheduler->submit(jobs)) answering->refuse(full);
  engine_bell.ring();
}

void Service::Parts::note_words(const Request& request) {
  std::vector<std::string> fresh;
  {
    const std::lock_guard lock(mutex);
    constexpr std::size_t most_words = 1000;
    for (const std::string& word : request.ignored)
      if (noted.size() < most_words && noted.insert(word).second) fresh.push_back(word);
    for (const std::string& word : request.skipped_tools)
      if (noted.size() < most_words && noted.insert("tools of kind " + word).second)
        fresh.push_back("tools of kind " + word);
  }
  for (const std::string& word : fresh) log("a field of requests is ignored: " + word);
}

void Service::Parts::tell_of(const Account& account) {
  totals.add(account);
  if (account.gone) {  // how much of the answer there was is nobody's any more
    log(fmt::format("{} left after {:.2f} s: {} tokens of prompt, {} of them known (parted at {})", account.id,
                    account.seconds, account.prompt, account.reused, account.parted_at));
    return;
  }
  log(fmt::format(
      "{} {}: {} tokens of prompt, {} of them known (parted at {}), {} of answer; {:.2f} s to the first, {:.2f} s",
      account.id, account.failed ? "failed" : "answered", account.prompt, account.reused, account.parted_at,
      account.completion, account.first_token_s, account.seconds));
}

void Service::Parts::compute() {
  while (!ended) {
    try {
      if (scheduler->turn()) continue;
      if (files && files->save_one(scheduler->tree())) continue;
    } catch (const std::exception& error) {
      log(fmt::format("a step failed: {}", error.what()));
    }
    // A reader that did not keep up is looked at again.
    engine_bell.wait(std::chrono::milliseconds(scheduler->state().paused > 0 ? 5 : 1000));
  }
  while (files && files->save_one(scheduler->tree())) {
  }
}

Service::Service(const http::Address& address, ServiceOptions options)
    : parts_(std::make_unique<Parts>(std::move(options))) {
  Parts& parts = *parts_;
  http::Callbacks callbacks;
  callbacks.check = [&parts](const http::Head& head) { return parts.check(head); };
  callbacks.handle = [&parts](Exchange exchange) { parts.handle(std::move(exchange)); };
  callbacks.error_body = [](int status, std::string_view message) {
    return answer_of(ApiError(status, "invalid_request_error", std::string(message)), Route::unknown);
  };
  parts.http = std::make_unique<http::Server>(address, parts.options.http, std::move(callbacks));
  parts.listening = true;  // a request may have come before
}

Service::~Service() {
  stop(0);
}

const http::Address& Service::address() const {
  return parts_->http->address();
}

void Service::run(const Model& model) {
  Parts& parts = *parts_;
  model.tokenizer();  // what is read when it is first asked for, before several threads do
  model.defaults();
  model.allowed_ids();
  const Stopwatch watch;
  parts.scheduler = std::make_unique<Scheduler>(model.engine(), model.tokenizer(), parts.options.limits,
                                                [watch] { return watch.seconds(); });
  if (!parts.options.prefix_folder.empty()) {
    parts.files = std::make_unique<PrefixFiles>(parts.options.prefix_folder, model.engine(),
                                                [&parts](std::string_view line) { parts.log(line); });
    parts.files->load(parts.scheduler->tree());
  }
  parts.engine_thread = std::thread([&parts] { parts.compute(); });
  parts.reader_thread = std::thread([&parts] { parts.read_requests(); });
  parts.model = &model;
}

void Service::stop(double seconds) {
  Parts& parts = *parts_;
  if (parts.ended) return;
  parts.draining = true;
  parts.http->stop_accepting();
  const Stopwatch watch;
  while (parts.http->exchanges() > 0 && watch.seconds() < seconds)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  parts.http->close();
  parts.ended = true;
  parts.engine_bell.ring();
  parts.reader_bell.ring();
  if (parts.engine_thread.joinable()) parts.engine_thread.join();
  if (parts.reader_thread.joinable()) parts.reader_thread.join();
}

}  // namespace tqkv::server
