#include "hub/settings.h"

#include <doctest/doctest.h>

#include <string>

#include "support/environment.h"
#include "support/failure.h"
#include "support/temporary_directory.h"

using namespace tqkv;
using namespace tqkv::hub;
using namespace tqkv::test;

namespace {

std::string refusal() {
  return failure(ErrorKind::hub, [] { settings_from_environment(); });
}

}  // namespace

TEST_CASE("the hub is huggingface.co, or what HF_ENDPOINT says") {
  const CleanEnvironment clean;
  CHECK(settings_from_environment().endpoint == "https://huggingface.co");
  {
    const Environment endpoint("HF_ENDPOINT", "http://mirror.example:8080/hub//");
    CHECK(settings_from_environment().endpoint == "http://mirror.example:8080/hub");
  }
  for (const char* value : {"mirror", "ftp://mirror", "file:///tmp", "https://"}) {
    const Environment endpoint("HF_ENDPOINT", value);
    CHECK(contains(refusal(), "is no http:// or https:// address"));
  }
}

TEST_CASE("the token is that of the environment, else of its file, unless it is turned off") {
  const CleanEnvironment clean;
  const TemporaryDirectory home;
  const Environment hf_home("HF_HOME", home.path().c_str());
  CHECK(settings_from_environment().token.empty());
  home.write("token", "hf_file\n");
  CHECK(settings_from_environment().token == "hf_file");
  const std::string other = home.write("other", " hf_other ");
  const Environment path("HF_TOKEN_PATH", other.c_str());
  CHECK(settings_from_environment().token == "hf_other");
  const Environment older("HUGGING_FACE_HUB_TOKEN", "hf_older");
  CHECK(settings_from_environment().token == "hf_older");
  const Environment newer("HF_TOKEN", "hf_newer");
  CHECK(settings_from_environment().token == "hf_newer");
  const Environment off("HF_HUB_DISABLE_IMPLICIT_TOKEN", "yes");
  CHECK(settings_from_environment().token.empty());
}

TEST_CASE("what could end a header is no token") {
  const CleanEnvironment clean;
  for (const char* value : {"hf_a\nX-Other: b", "hf a", "hf_\x01", "hf_\xc3\xa9"}) {
    const Environment token("HF_TOKEN", value);
    const std::string message = refusal();
    CHECK(contains(message, "HF_TOKEN: contains no token"));
    CHECK(message.find("hf") == std::string::npos);  // it may be a secret all the same
  }
}

TEST_CASE("HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE turn the network off") {
  const CleanEnvironment clean;
  CHECK(settings_from_environment().offline.empty());
  for (const char* variable : {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}) {
    for (const char* value : {"1", "ON", "yes", "True"}) {
      const Environment offline(variable, value);
      CHECK(settings_from_environment().offline == variable);
    }
    for (const char* value : {"0", "", "no"}) {
      const Environment offline(variable, value);
      CHECK(settings_from_environment().offline.empty());
    }
  }
}

TEST_CASE("timeouts are seconds") {
  const CleanEnvironment clean;
  const Environment answer("HF_HUB_ETAG_TIMEOUT", "30");
  CHECK(settings_from_environment().answer_timeout.count() == 30);
  CHECK(settings_from_environment().stall_timeout.count() == 10);
  for (const char* value : {"0", "-1", "soon", "10s", "99999999999"}) {
    const Environment download("HF_HUB_DOWNLOAD_TIMEOUT", value);
    CHECK(contains(refusal(), "HF_HUB_DOWNLOAD_TIMEOUT"));
  }
}
