// Service: a model behind HTTP, as clients meet it.
#include "server/service/service.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "server/raw_client.h"
#include "server/recording.h"
#include "support/failure.h"
#include "support/sanitized.h"

using namespace tqkv;
using namespace tqkv::test;
using namespace tqkv::server;
using nlohmann::json;

namespace {

class Served {
 public:
  explicit Served(const std::string& key = "", int parallel = 4, int queue = 256) {
    ServiceOptions options;
    options.name = "org/pocket";
    options.settings.format = KvFormat::usual();
    options.settings.context = 4096;
    options.limits.parallel = parallel;
    options.limits.queue = queue;
    options.limits.context = 4096;
    options.limits.pass_tokens = 512;
    options.limits.memory = std::uint64_t{1} << 30;
    options.limits.prefix_cache = std::uint64_t{100} << 20;
    options.access.key = key;
    options.access.hosts = {"localhost", "127.0.0.1", "here"};
    options.log = [this](std::string_view line) {
      const std::lock_guard lock(mutex_);
      lines_.emplace_back(line);
    };
    service_ = std::make_unique<Service>(http::Address{}, options);
  }
  Service& run() {
    service_->run(served_model());
    return *service_;
  }
  Service& service() { return *service_; }
  RawClient client() { return RawClient(service_->address()); }
  RawAnswer ask(const std::string& request) { return client().ask(request); }
  /// Waits until the log has a line with `part`, a few seconds at most.
  bool logs(const std::string& part) {
    for (int i = 0; i < 1000; ++i) {
      {
        const std::lock_guard lock(mutex_);
        for (const std::string& line : lines_)
          if (line.find(part) != std::string::npos) return true;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
  /// A figure of /metrics.
  double metric(const std::string& name) {
    const std::string text = ask(get("/metrics")).body;
    const std::size_t at = text.find("\n" + name + " ");
    REQUIRE(at != std::string::npos);
    return std::stod(text.substr(at + name.size() + 2));
  }
  /// Waits until the figure is `value`, a few seconds at most.
  bool comes_to(const std::string& name, double value) {
    for (int i = 0; i < 1000; ++i) {
      if (metric(name) == value) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
  std::unique_ptr<Service> service_;  // last: its threads use the others
};

const std::string type = "Content-Type: application/json\r\n";

std::string chat(const std::string& rest, const std::string& text = "Hi, what can you help me with?") {
  return post("/v1/chat/completions",
              R"({"messages":[{"role":"user","content":")" + text + R"("}])" + (rest.empty() ? "" : "," + rest) + "}",
              type);
}

/// The JSON of each event of a stream.
std::vector<json> events(const std::string& body) {
  std::vector<json> all;
  std::size_t at = 0;
  while ((at = body.find("data: ", at)) != std::string::npos) {
    const std::size_t end = body.find("\n\n", at);
    const std::string text = body.substr(at + 6, end - at - 6);
    if (text != "[DONE]") all.push_back(json::parse(text));
    at = end;
  }
  return all;
}

std::string greedy_answer(int tokens) {
  const Model& model = served_model();
  GenerateOptions options = model.answer_options();
  options.sampling.temperature = 0;
  options.max_tokens = tokens;
  const auto session = model.engine().open(KvFormat::usual());
  return generate(*session, model.tokenizer(), model.prompt("Hi, what can you help me with?"), options).answer;
}

}  // namespace

TEST_CASE("a chat is answered as `generate` answers, whole and as a stream") {
  Served served;
  served.run();
  const std::string expected = greedy_answer(30);
  const RawAnswer whole = served.ask(chat(R"("temperature":0,"max_tokens":30)"));
  CHECK(whole.status == 200);
  const json answer = json::parse(whole.body);
  CHECK(answer["choices"][0]["message"]["content"] == expected);
  CHECK(answer["choices"][0]["finish_reason"] == "length");
  CHECK(answer["usage"]["completion_tokens"] == 30);
  CHECK(answer["tqkv"]["cache"] == KvFormat::usual().canonical());

  const RawAnswer streamed = served.ask(chat(
      R"("temperature":0,"max_tokens":30,"stream":true,"stream_options":{"include_usage":true},"logprobs":true,"tqkv":{"exact":true})"));
  CHECK(streamed.status == 200);
  CHECK(streamed.headers.at("content-type") == "text/event-stream");
  std::string text;
  int tokens = 0;
  for (const json& event : events(streamed.body)) {
    if (event["choices"].empty()) {
      CHECK(event["usage"]["prompt_tokens_details"]["cached_tokens"] > 0);  // the question was there
      continue;
    }
    const json& choice = event["choices"][0];
    if (choice["delta"].contains("content")) text += choice["delta"]["content"].get<std::string>();
    if (choice["logprobs"].is_object()) tokens += static_cast<int>(choice["logprobs"]["content"].size());
  }
  CHECK(text == expected);
  CHECK(tokens == 30);
  CHECK(contains(streamed.body, ": prompt 22/22\n\n"));
  CHECK(streamed.body.ends_with("data: [DONE]\n\n"));
  CHECK(served.logs("22 tokens of prompt, 15 of them known"));
}

TEST_CASE("an answer says when it continues from the end of another one, and an exact request does not") {
  Served served;
  served.run();
  const auto ask = [&](const std::string& prompt, const std::string& rest) {
    return json::parse(
        served
            .ask(post("/v1/completions", R"({"temperature":0,"max_tokens":8,)" + rest + R"("prompt":)" + prompt + "}",
                      type))
            .body);
  };
  const std::string text = "A vector is a sequence container";
  const json first = ask(json(text).dump(), "");
  CHECK_FALSE(first["tqkv"]["reuse"].contains("exact"));
  const std::string longer = json(text + first["choices"][0]["text"].get<std::string>() + " and more").dump();
  const int prompt = first["usage"]["prompt_tokens"];
  CHECK(ask(longer, R"("tqkv":{"exact":true},)")["tqkv"]["reuse"]["from"] == 0);
  const json rounded = ask(longer, "");
  CHECK(rounded["tqkv"]["reuse"]["from"] > prompt);
  CHECK(rounded["tqkv"]["reuse"]["exact"] == false);
}

TEST_CASE("every endpoint answers") {
  Served served;
  served.run();
  const std::string body = R"({"messages":[{"role":"user","content":"Hi"}],"max_tokens":4})";
  for (const char* path : {"/v1/chat/completions", "/v1/messages"})
    CHECK(served.ask(post(path, body, type)).status == 200);
  CHECK(served.ask(post("/v1/responses", R"({"input":"Hi","max_output_tokens":16})", type)).status == 200);
  const RawAnswer raw =
      served.ask(post("/v1/completions", R"({"prompt":["One, two,","A"],"max_tokens":3,"n":2,"echo":true})", type));
  CHECK(raw.status == 200);
  const json choices = json::parse(raw.body)["choices"];
  REQUIRE(choices.size() == 4);
  CHECK(choices[1]["text"].get<std::string>().starts_with("One, two,"));
  CHECK(choices[2]["text"].get<std::string>().starts_with("A"));
  CHECK(json::parse(
            served.ask(post("/v1/messages/count_tokens", R"({"messages":[{"role":"user","content":"Hi"}]})", type))
                .body)["input_tokens"] > 5);
  const json ids = json::parse(served.ask(post("/tokenize", R"({"content":"a b <|im_end|>"})", type)).body)["tokens"];
  CHECK(ids.size() > 4);  // control strings stay text
  CHECK(json::parse(served.ask(post("/detokenize", json{{"tokens", ids}}.dump(), type)).body)["content"] ==
        "a b <|im_end|>");
  for (const char* path :
       {"/health", "/metrics", "/plan", "/v1/models", "/v1/models/org/pocket", "/v1/models/pocket", "/"}) {
    CAPTURE(path);
    CHECK(served.ask(get(path)).status == 200);
  }
  CHECK(json::parse(served.ask(get("/v1/models")).body)["data"][0]["id"] == "org/pocket");
  const RawAnswer page = served.ask(get("/"));
  CHECK(page.headers.at("content-type") == "text/html; charset=utf-8");
  CHECK(contains(page.headers.at("content-security-policy"), "default-src 'none'"));
  const RawAnswer compressed = served.ask(get("/", "Accept-Encoding: gzip, br\r\n"));
  CHECK(compressed.headers.at("content-encoding") == "gzip");
  CHECK(compressed.body.size() < page.body.size() / 2);
}

TEST_CASE("what is refused says why in the words of its protocol, and the next request is answered") {
  Served served("a secret key");
  served.run();
  const std::string key = "Authorization: Bearer a secret key\r\n";
  const auto refused = [&](const std::string& request, int status, const std::string& part) {
    const RawAnswer answer = served.ask(request);
    CAPTURE(request.substr(0, 200));
    CAPTURE(answer.body);
    CHECK(answer.status == status);
    const json error = json::parse(answer.body)["error"];
    CHECK(contains(error["message"].get<std::string>(), part));
    for (const char* name : {"message", "type", "param", "code"}) CHECK(error.contains(name));
  };
  refused(get("/v1/models"), 401, "key");
  refused(get("/v1/models", "Authorization: Bearer a secret kez\r\n"), 401, "key");
  CHECK(served.ask(get("/v1/models", key)).status == 200);
  CHECK(served.ask(get("/v1/models", "x-api-key: a secret key\r\n")).status == 200);
  CHECK(served.ask(get("/health")).status == 200);
  refused(get("/v2/nothing", key), 404, "nothing at /v2/nothing");
  refused(get("/v1/chat/completions", key), 405, "takes POST");
  refused(post("/health", "{}", type + key), 405, "takes GET");
  refused(post("/v1/embeddings", "{}", type + key), 501, "not something");
  refused(post("/v1/chat/completions", "{}", key), 415, "application/json");
  refused(post("/v1/chat/completions", "{", type + key), 400, "");
  refused(post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"a"}],"model":"gpt-9"})", type + key),
          404, "gpt-9");
  refused(post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"a"}],"temperature":-1})", type + key),
          400, "temperature");
  refused(post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"a"}],"tqkv":{"cache":"zip"}})",
               type + key),
          400, "zip");
  refused(
      post(
          "/v1/chat/completions",
          R"({"messages":[{"role":"user","content":"a"}],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"pattern":"a"}}}})",
          type + key),
      400, "pattern");
  const std::string with_tools =
      R"({"messages":[{"role":"user","content":"a"}],"tools":[{"type":"function","function":{"name":"f"}}]})";
  refused(post("/v1/chat/completions", with_tools, type + key), 400, "has no tools");
  CHECK(json::parse(served.ask(post("/v1/chat/completions", with_tools, type + key)).body)["error"]["param"] ==
        "tools");
  refused(post("/v1/completions", R"({"prompt":[1,2,99999999]})", type + key), 400, "99999999");
  refused("GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n" + key + "\r\n", 403, "Host");
  refused("POST /tokenize HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n" + key +
              "\r\n",
          403, "other sites");
  std::string words;
  for (int i = 0; i < 5000; ++i) words += "word ";
  refused(post("/v1/chat/completions", R"({"messages":[{"role":"user","content":")" + words + R"("}]})", type + key),
          400, "4096");
  const RawAnswer anthropic_error = served.ask(post("/v1/messages", R"({"messages":[]})", type + key));
  CHECK(anthropic_error.status == 400);
  CHECK(json::parse(anthropic_error.body)["type"] == "error");
  CHECK(served
            .ask(post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"a"}],"max_tokens":1})",
                      type + key))
            .status == 200);
}

TEST_CASE("a client that leaves frees its place, in a stream, in the prompt and in the queue") {
  Served served("", 1);
  served.run();
  const std::string endless = chat(R"("temperature":0,"max_tokens":3000,"ignore_eos":true,"stream":true)");
  const std::string silent = chat(R"("temperature":0,"max_tokens":3000,"ignore_eos":true)");
  {
    RawClient first = served.client();
    first.send(endless);
    first.receive_until("\"content\"");
    RawClient second = served.client();  // queued behind it
    second.send(silent);
    CHECK(served.comes_to("tqkv_requests{state=\"queued\"}", 1));
    second.close();
    CHECK(served.comes_to("tqkv_requests{state=\"queued\"}", 0));
    CHECK(served.metric("tqkv_requests{state=\"decoding\"}") == 1);
    first.close();
  }
  CHECK(served.comes_to("tqkv_requests{state=\"decoding\"}", 0));
  {
    RawClient whole = served.client();
    whole.send(silent);
    CHECK(served.comes_to("tqkv_requests{state=\"decoding\"}", 1));
    whole.reset();
  }
  CHECK(served.comes_to("tqkv_requests{state=\"decoding\"}", 0));
  CHECK(served.comes_to("tqkv_promised_bytes", 0));
  CHECK(served.comes_to("tqkv_requests_total{end=\"left\"}", 3));
  CHECK(served.ask(chat(R"("max_tokens":2)")).status == 200);
}

TEST_CASE("requests are refused while the model is loaded and while the server ends") {
  Served served;
  CHECK(served.ask(get("/health")).status == 503);
  const RawAnswer early = served.ask(chat(""));
  CHECK(early.status == 503);
  CHECK(early.headers.contains("retry-after"));
  served.run();
  RawClient under_way = served.client();
  under_way.send(chat(R"("max_tokens":40,"ignore_eos":true,"stream":true)"));
  under_way.receive_until("\"content\"");
  std::thread ending([&] { served.service().stop(30); });
  CHECK(under_way.rest().find("[DONE]") != std::string::npos);
  ending.join();
}

TEST_CASE("a full queue is told, and a stop string never shows") {
  Served served("", 1, 0);
  served.run();
  RawClient under_way = served.client();
  under_way.send(chat(R"("max_tokens":2000,"stream":true,"ignore_eos":true)"));
  under_way.receive_until("\"content\"");
  for (const char* rest : {"", R"("stream":true)"}) {
    const RawAnswer full = served.ask(chat(rest));
    CHECK(full.status == 429);
    CHECK(full.headers.contains("retry-after"));
    CHECK(json::parse(full.body)["error"]["code"] == "queue_full");
  }
  const RawAnswer several = served.ask(chat(R"("n":2)"));
  CHECK(several.status == 400);
  CHECK(served.logs("refused with 400: 2 choices are more than the 1 that run at once"));
  under_way.reset();
  Served open;
  open.run();
  const RawAnswer stopped = open.ask(chat(R"("temperature":0,"stop":["pocket"],"stream":true)"));
  CHECK(stopped.body.find("pocket-") == std::string::npos);
  CHECK(contains(stopped.body, R"("finish_reason":"stop")"));
}

TEST_CASE("sixty-four clients at once are answered, or leave, and nothing stays behind") {
  Served served("", 8);
  served.run();
  std::atomic<int> answered = 0, wrong = 0;
  std::vector<std::thread> clients;
  const http::Address address = served.service().address();
  for (int i = 0; i < 64; ++i) {
    clients.emplace_back([&, i] {
      RawClient client(address);
      const std::string question = "Question " + std::to_string(i % 7);
      // Under a sanitizer whole answers take longer than a client waits: streams have heartbeats.
      const std::string rest = i % 2 || sanitized ? R"("max_tokens":6,"stream":true)" : R"("max_tokens":6)";
      if (i % 8 == 3) {  // leaves at some point
        client.send(chat(R"("max_tokens":400,"stream":true,"ignore_eos":true)", question));
        if (i % 16 == 3) client.receive();
        client.reset();
        return;
      }
      for (int turn = 0; turn < 2; ++turn) {
        const RawAnswer answer = client.ask(chat(rest, question));
        ++(answer.status == 200 && answer.whole ? answered : wrong);
      }
    });
  }
  for (std::thread& client : clients) client.join();
  CHECK(answered == 112);
  CHECK(wrong == 0);
  CHECK(served.comes_to("tqkv_promised_bytes", 0));
  CHECK(served.comes_to("tqkv_requests{state=\"decoding\"}", 0));
  CHECK(served.comes_to("tqkv_connections", 1));
}
