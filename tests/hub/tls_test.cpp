// A hub over https with a certificate made for the test.
#include <doctest/doctest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <memory>
#include <string>

#include "hub/pull.h"
#include "support/failure.h"
#include "test_hub.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

/// A certificate for 127.0.0.1 and localhost that vouches for itself, and its key.
class Certificate {
 public:
  Certificate() {
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
    REQUIRE(key);
    REQUIRE(certificate);
    X509_set_version(certificate.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -86400);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 86400);
    X509_set_pubkey(certificate.get(), key.get());
    X509_NAME* name = X509_get_subject_name(certificate.get());
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("localhost"), -1, -1,
                               0);
    X509_set_issuer_name(certificate.get(), name);
    X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "IP:127.0.0.1,DNS:localhost");
    X509_add_ext(certificate.get(), names, -1);
    X509_EXTENSION_free(names);
    X509_sign(certificate.get(), key.get(), EVP_sha256());
    write("certificate", [&](std::FILE* file) { PEM_write_X509(file, certificate.get()); });
    write("key",
          [&](std::FILE* file) { PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
  }
  std::string path(const char* file) const { return (folder_ / file).string(); }
  json scenario(const TestRepository& repository) const {
    json scenario = repository.scenario();
    scenario["tls"] = {{"certificate", path("certificate")}, {"key", path("key")}};
    return scenario;
  }

 private:
  template <class Write>
  void write(const char* name, const Write& content) const {
    std::FILE* file = std::fopen(path(name).c_str(), "wb");
    REQUIRE(file != nullptr);
    content(file);
    std::fclose(file);
  }
  TemporaryDirectory folder_;
};

}  // namespace

TEST_CASE("https is spoken with hubs whose certificate an authority of the user vouches for, and with no others") {
  const TestRepository repository;
  const Certificate certificate;
  const TestHub hub(certificate.scenario(repository));
  const TemporaryDirectory cache;
  hub::Settings settings = settings_for(hub, cache.path());
  CHECK(settings.endpoint.starts_with("https://"));
  const HubName name = *parse_hub_name("org/name");
  settings.token = "hf_secret";
  const std::string message = failure(ErrorKind::hub, [&] { hub::plan_pull(settings, name, nullptr); });
  CHECK(contains(message, "cannot be reached: SSL certificate problem"));
  CHECK(hub.requests().empty());  // and the token was not sent

  settings.certificates = certificate.path("certificate");
  const hub::PullResult result = hub::pull(settings, hub::plan_pull(settings, name, nullptr), nullptr, {});
  for (const char* shard : {TestRepository::first_shard, TestRepository::second_shard})
    CHECK(file_text(result.snapshot / shard) == repository.text(shard));
  for (const json& request : hub.requests("data")) CHECK(request["token"] == "");
}

TEST_CASE("a redirect from https to http is refused") {
  const TestRepository repository;
  const Certificate certificate;
  json scenario = certificate.scenario(repository);
  scenario["data_scheme"] = "http";
  const TestHub hub(scenario);
  const TemporaryDirectory cache;
  hub::Settings settings = settings_for(hub, cache.path());
  settings.certificates = certificate.path("certificate");
  const std::string message =
      failure(ErrorKind::hub, [&] { hub::plan_pull(settings, *parse_hub_name("org/name"), nullptr); });
  CHECK(contains(message, "which is no https:// address"));
  CHECK(hub.requests("data").empty());
}
