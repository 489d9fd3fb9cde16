#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "base/file.h"
#include "cli/commands/commands.h"
#include "cli/options/number_checks.h"
#include "cli/options/options.h"
#include "cli/session/fetching.h"
#include "cli/session/loading.h"
#include "cli/terminal/interrupt.h"
#include "cli/terminal/output.h"
#include "runtime/devices.h"
#include "server/service/service.h"
#include "tqkv/error.h"

namespace tqkv::cli {
namespace {

constexpr const char* server_group = "Server";
constexpr std::uint64_t usual_prefix_cache = 2'000'000'000;

struct ServeArguments {
  ModelOptions model;
  CacheOptions cache;
  std::string host = "127.0.0.1", unix_path, key_file, name, markup, prefix_folder;
  int port = 8080, parallel = 8, piece = 256, drain = 30, queue = 256;
  double prefill_share = 0.5;
  std::int64_t prefix_cache = -1;  // bytes; -1: not given
  bool exact = false, insecure = false, quiet = false;
};

bool loopback(const ServeArguments& options) {
  const std::string& host = options.host;
  return !options.unix_path.empty() || host == "localhost" || host == "::1" || host.starts_with("127.");
}

std::string key_of(const ServeArguments& options) {
  if (options.key_file.empty()) {
    if (!loopback(options) && !options.insecure)
      throw Error(ErrorKind::usage,
                  fmt::format("--host {}: whoever reaches this machine could use the model: give --api-key FILE, or "
                              "--insecure",
                              options.host));
    return {};
  }
  std::string key = read_text(options.key_file);
  key.erase(key.find_last_not_of(" \t\r\n") + 1);
  if (key.empty()) throw Error(ErrorKind::input, fmt::format("{}: there is no key in it", options.key_file));
  if (key.find_first_of("\r\n") != std::string::npos)
    throw Error(ErrorKind::input, fmt::format("{}: a key is one line of text, and there are more", options.key_file));
  return key;
}

/// The names that a browser on this machine may ask for: another site that resolves to this machine has another one.
std::vector<std::string> hosts_of(const ServeArguments& options) {
  if (!loopback(options)) return {};
  std::vector<std::string> hosts{"localhost", "127.0.0.1", "::1"};
  if (std::ranges::find(hosts, options.host) == hosts.end()) hosts.push_back(options.host);
  return hosts;
}

/// Bytes for requests and kept states, beside what the plan has once.
std::uint64_t room_of(const MemoryPlan& plan) {
  const std::uint64_t once = plan.scratch + plan.vocabulary;
  std::uint64_t room = plan.available == 0 ? UINT64_MAX / 4 : plan.usable() - std::min(plan.usable(), once);
  if (plan.device && plan.device->available > 0) {
    const std::uint64_t there = plan.weights + plan.scratch;
    room = std::min(room, plan.device->available - std::min(plan.device->available, there));
  }
  return room;
}

/// The most tokens of which so many requests fit into `room`, in whole pages.
int context_of(const Model& model, const ServeArguments& options, const DeviceOptions& device, const KvFormat& format,
               StateType state, std::uint64_t room, bool kept) {
  constexpr int page = 256;
  int fits = 0, beyond = model.config().max_position_embeddings / page + 1;
  while (beyond - fits > 1) {
    const int pages = fits + (beyond - fits) / 2;
    const std::uint64_t bytes =
        server::request_bytes(model.config(), device, state, format, {.tokens = pages * page, .kept = kept});
    (bytes <= room / static_cast<std::uint64_t>(options.parallel) ? fits : beyond) = pages;
  }
  return fits * page;
}

std::string megabytes(std::uint64_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

void serve(const ServeArguments& options) {
  const std::string key = key_of(options);
  const KvFormat format = options.cache.format();
  Model model(Checkpoint::open(find_model(options.model.model)));
  load_tokenizer(model);
  std::string about;
  model.chat(options.markup, &about);
  if (!about.empty()) note(about);

  SessionOptions session = options.model.session();
  DeviceOptions device = options.model.device();
  const int pass = std::max(options.model.prefill_chunk, options.piece);
  PlanRequest request{device, session};
  request.session.prefill_chunk = pass + options.parallel;
  // Prompts of several requests share a pass: it may have more rows than one request has tokens.
  request.session.context = std::min(std::max(options.model.context, request.session.prefill_chunk),
                                     std::max(model.config().max_position_embeddings, options.model.context));
  request.tokenizer = model.tokenizer().size();
  const MemoryPlan plan = model.plan(format, request);
  const Announcement announcement = admit(plan, options.model, model.checkpoint().directory());

  server::ServiceOptions service;
  const std::uint64_t room = room_of(plan);
  device.precision = plan.precision;
  const std::uint64_t prefix = options.prefix_cache >= 0 ? static_cast<std::uint64_t>(options.prefix_cache)
                                                         : std::min(usual_prefix_cache, room / 4);
  if (prefix > room)
    throw Error(ErrorKind::memory, fmt::format("--prefix-cache: {} are more than the {} that are free",
                                               megabytes(prefix), megabytes(room)));
  const int context = options.model.context > 0
                          ? options.model.context
                          : context_of(model, options, device, format, session.state, room - prefix, prefix > 0);
  if (options.model.context == 0 && context < options.piece)
    throw Error(ErrorKind::memory,
                fmt::format("{} requests at once have no room for {} tokens each in {}: give a smaller "
                            "--parallel or --prefix-cache, or --context-per-request",
                            options.parallel, options.piece, megabytes(room - prefix)));
  if (const std::uint64_t bytes =
          server::request_bytes(model.config(), device, session.state, format, {.tokens = context, .kept = prefix > 0});
      bytes > room)
    throw Error(ErrorKind::memory, fmt::format("--context-per-request {}: one request takes {}, and {} are free: give "
                                               "a smaller number",
                                               context, megabytes(bytes), megabytes(room)));
  service.name = options.name.empty() ? options.model.model : options.name;
  service.settings = {format, options.piece, context, options.exact, options.markup};
  service.limits = {options.parallel, context, pass, session.state, options.queue, room, prefix, options.prefill_share};
  service.access = {key, hosts_of(options)};
  service.prefix_folder = options.prefix_folder;
  service.weights = plan.weights;
  service.scratch = plan.scratch + plan.vocabulary;
  std::mutex output;
  if (!options.quiet)
    service.log = [&output](std::string_view line) {
      const std::lock_guard lock(output);
      note(std::string(line));
    };

  http::Address address;
  address.host = options.host;
  address.port = static_cast<std::uint16_t>(options.port);
  address.unix_path = options.unix_path;
  const EndRequest end;
  server::Service running(address, service);
  const Engine& engine = model.load(shown_device(options.model));
  note_device(engine, options.model.device().precision);
  running.run(model);
  print_error(describe(plan));
  print_error(fmt::format("requests  {} tokens each, up to {} at once; {} for them and {} for kept prefixes\n", context,
                          options.parallel, megabytes(room - prefix), megabytes(prefix)));
  print_error(fmt::format("cache     {}\n", format.canonical()));
  print(fmt::format("{} serves {}\n", running.address().text(), service.name));
  end.wait();
  note("ending: no new requests are taken, those under way may finish");
  running.stop(options.drain);
}

}  // namespace

void add_serve(CLI::App& program) {
  // Shared because the callback, which CLI11 copies, outlives this function.
  const auto options = std::make_shared<ServeArguments>();
  CLI::App* command =
      program.add_subcommand("serve", "Serve a model over HTTP, as OpenAI's and Anthropic's servers do");
  add_model_options(*command, options->model);
  command->remove_option(command->get_option("--context"));  // of a run; requests have their own
  command
      ->add_option("--context-per-request", options->model.context,
                   "Tokens that a request may have, its answer included (default: what --parallel requests have "
                   "room for)")
      ->transform(whole_number(16, max_count))
      ->type_name("N")
      ->group(server_group);
  command->add_option("--host", options->host, "Name or address to listen on")
      ->type_name("HOST")
      ->capture_default_str()
      ->group(server_group);
  command->add_option("--port", options->port, "Port to listen on; 0: a free one")
      ->transform(whole_number(0, 65535))
      ->type_name("N")
      ->capture_default_str()
      ->group(server_group);
  command->add_option("--unix", options->unix_path, "Listen on a unix socket instead")
      ->type_name("PATH")
      ->group(server_group);
  command->add_option("--api-key", options->key_file, "File with the key that requests must bring")
      ->type_name("FILE")
      ->group(server_group);
  command->add_flag("--insecure", options->insecure, "Listen beyond this machine without a key")->group(server_group);
  command->add_option("--name", options->name, "Name of the model for clients (default: MODEL)")
      ->type_name("NAME")
      ->group(server_group);
  command->add_option("--markup", options->markup, "Chat markup: qwen3.5, qwen3.6 or chatml (default: the model's)")
      ->check(CLI::IsMember({"qwen3.5", "qwen3.6", "chatml"}))
      ->type_name("NAME")
      ->group(server_group);
  const auto number = [&](const char* flag, int& value, int least, int most, const char* help) {
    command->add_option(flag, value, help)
        ->transform(whole_number(least, static_cast<std::uint64_t>(most)))
        ->type_name("N")
        ->capture_default_str()
        ->group(server_group);
  };
  number("--parallel", options->parallel, 1, 1024, "Answers under way at once");
  number("--piece", options->piece, 16, 65536, "Tokens of a prompt that are read between two tokens of other answers");
  number("--queue", options->queue, 0, 100000, "Requests that may wait; others get status 429");
  number("--drain", options->drain, 0, 86400, "Seconds that answers have to end after SIGTERM or Ctrl-C");
  command->add_option("--prefill-share", options->prefill_share, "Share of the time for prompts while answers come")
      ->transform(real_number(0.01, 0.99))
      ->type_name("X")
      ->capture_default_str()
      ->group(server_group);
  command
      ->add_option("--prefix-cache", options->prefix_cache,
                   "Memory for beginnings of prompts that come again, as in 500MB (default: a quarter of what is free, "
                   "at most 2GB)")
      ->transform(byte_size())
      ->type_name("BYTES")
      ->group(server_group);
  command->add_option("--prefix-save", options->prefix_folder, "Folder in which they outlive the program")
      ->type_name("DIR")
      ->group(server_group);
  command
      ->add_flag("--exact-reuse", options->exact,
                 "Never go on from the end of an answer, whose state differs by rounding from a prompt's")
      ->group(server_group);
  command->add_flag("--quiet", options->quiet, "No line per request")->group(server_group);
  add_cache_options(*command, options->cache, false);
  command->footer(
      "Endpoints: /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages, /v1/models, /tokenize,\n"
      "/detokenize, /health, /metrics, /plan. docs/serving.md has their fields and limits.\n\n"
      "Examples:\n"
      "  tqkv serve pocket\n"
      "  tqkv serve mlx-community/Qwen3.5-35B-A3B-4bit --parallel 4 --context-per-request 32768\n"
      "  tqkv serve pocket --host 0.0.0.0 --api-key key.txt");
  command->callback([options] { serve(*options); });
}

}  // namespace tqkv::cli
