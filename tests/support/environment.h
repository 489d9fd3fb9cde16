// Environment variables and the working directory of this process, put back at the end of a scope.
#pragma once
#include <stdlib.h>

#include <filesystem>
#include <optional>
#include <string>

namespace tqkv::test {

/// Sets an environment variable, or removes it, until the end of the scope.
class Environment {
 public:
  Environment(const char* variable, const char* value) : variable_(variable) {
    if (const char* old = ::getenv(variable)) old_ = old;
    set(value);
  }
  ~Environment() { set(old_ ? old_->c_str() : nullptr); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  void set(const char* value) const {
    if (value) {
      ::setenv(variable_, value, 1);
    } else {
      ::unsetenv(variable_);
    }
  }
  const char* variable_;
  std::optional<std::string> old_;
};

/// No variable of the user's about models and the hub reaches a test.
struct CleanEnvironment {
  Environment a{"HF_HUB_CACHE", nullptr}, b{"HUGGINGFACE_HUB_CACHE", nullptr}, c{"HF_HOME", nullptr},
      d{"XDG_CACHE_HOME", nullptr}, e{"TQKV_MODELS_DIR", nullptr}, f{"HF_ENDPOINT", nullptr}, g{"HF_TOKEN", nullptr},
      h{"HUGGING_FACE_HUB_TOKEN", nullptr}, i{"HF_TOKEN_PATH", nullptr}, j{"HF_HUB_DISABLE_IMPLICIT_TOKEN", nullptr},
      k{"HF_HUB_OFFLINE", nullptr}, l{"TRANSFORMERS_OFFLINE", nullptr}, m{"HF_HUB_ETAG_TIMEOUT", nullptr},
      n{"HF_HUB_DOWNLOAD_TIMEOUT", nullptr}, o{"REQUESTS_CA_BUNDLE", nullptr}, p{"CURL_CA_BUNDLE", nullptr};
};

/// Works in `directory` until the end of the scope.
class WorkingDirectory {
 public:
  explicit WorkingDirectory(const std::filesystem::path& directory) : old_(std::filesystem::current_path()) {
    std::filesystem::current_path(directory);
  }
  ~WorkingDirectory() { std::filesystem::current_path(old_); }
  WorkingDirectory(const WorkingDirectory&) = delete;
  WorkingDirectory& operator=(const WorkingDirectory&) = delete;

 private:
  std::filesystem::path old_;
};

}  // namespace tqkv::test
