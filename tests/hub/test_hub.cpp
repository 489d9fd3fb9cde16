#include "test_hub.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <random>
#include <span>
#include <stdexcept>

#include "hub/digest.h"
#include "support/places.h"

namespace tqkv::test {

using nlohmann::json;

TestHub::TestHub(const json& scenario) : tls_(scenario.contains("tls")) {
  for (const char* variable : {"no_proxy", "NO_PROXY"}) ::setenv(variable, "127.0.0.1,localhost", 1);
  const std::string file = folder_.write("scenario.json", scenario.dump());
  const std::string log = folder_.write("log", "");
  std::array<int, 2> in{}, out{};
  if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0)
    throw std::runtime_error("pipe failed");
  child_ = ::fork();
  if (child_ < 0) throw std::runtime_error("fork failed");
  if (child_ == 0) {
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::execlp("python3", "python3", (test::source_dir() + "/tests/hub/hub_server.py").c_str(), file.c_str(), log.c_str(),
             nullptr);
    ::_exit(127);
  }
  ::close(in[0]);
  ::close(out[1]);
  to_ = in[1];
  from_ = out[0];
  const std::string first = line();
  if (first.empty()) throw std::runtime_error("hub_server.py does not start: python3 is needed");
  port_ = std::stoi(first);
}

TestHub::~TestHub() {
  ::close(to_);
  ::close(from_);
  while (::waitpid(child_, nullptr, 0) < 0 && errno == EINTR) continue;
}

std::string TestHub::endpoint() const {
  return fmt::format("{}://127.0.0.1:{}", tls_ ? "https" : "http", port_);
}

std::string TestHub::line() {
  std::string text;
  char c = 0;
  while (::read(from_, &c, 1) == 1 && c != '\n') text += c;
  return text;
}

void TestHub::wait_until_held() {
  if (line() != "held") throw std::runtime_error("hub_server.py ended");
}

void TestHub::release() {
  if (::write(to_, "release\n", 8) != 8) throw std::runtime_error("hub_server.py ended");
}

std::vector<json> TestHub::requests(const std::string& kind) const {
  std::vector<json> requests;
  std::ifstream log(folder_.path() / "log");
  for (std::string text; std::getline(log, text);) {
    json request = json::parse(text);
    if (kind.empty() || request["kind"] == kind) requests.push_back(std::move(request));
  }
  return requests;
}

TestRepository::TestRepository(std::size_t shard_bytes) {
  folder_.write("config.json", R"({"model_type": "qwen3_5_moe"})");
  folder_.write("generation_config.json", R"({"temperature": 1.0})");
  folder_.write("tokenizer.json", R"({"version": "1.0"})");
  folder_.write("tokenizer_config.json", "{}");
  folder_.write("chat_template.jinja", "{{ messages }}");
  folder_.write("model.safetensors.index.json", json{{"weight_map", {{"a", first_shard}, {"b", second_shard}}}}.dump());
  folder_.write("README.md", "nobody needs it here");
  folder_.write("vocab.json", "{}");
  std::mt19937 random(20260101);
  for (const char* shard : {first_shard, second_shard}) {
    std::string bytes(shard_bytes, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    folder_.write(shard, bytes);
    shard_bytes += 1000;
  }
}

std::string TestRepository::text(const std::string& file) const {
  return file_text(folder_.path() / file);
}

json TestRepository::scenario(const json& rules) const {
  return {
      {"repositories",
       {{"org/name",
         {{"folder", folder_.path().string()}, {"revisions", {{"main", main_commit}, {"refs/pr/1", main_commit}}}}}}},
      {"large", 10000},
      {"rules", rules}};
}

hub::Settings settings_for(const TestHub& hub, const std::filesystem::path& cache) {
  hub::Settings settings;
  settings.endpoint = hub.endpoint();
  settings.cache = cache;
  settings.retry_delay = std::chrono::milliseconds(0);
  return settings;
}

std::string file_text(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string sha256_hex(const std::string& text) {
  hub::Digest digest = hub::Digest::sha256();
  digest.add(std::as_bytes(std::span(text)));
  return digest.hex();
}

}  // namespace tqkv::test
