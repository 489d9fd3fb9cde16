// Service: a model behind HTTP. Sockets have a thread, requests are read on another one, and the model computes on a
// third. They meet in queues; none waits for a socket.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/server.h"
#include "server/protocol/status_texts.h"
#include "server/schedule/scheduler.h"
#include "server/service/access.h"
#include "server/service/prepare.h"
#include "tqkv/memory_plan.h"

namespace tqkv::server {

struct ServiceOptions {
  std::string name;  ///< of the model, as clients name it
  ServeSettings settings;
  SchedulerLimits limits;
  AccessRules access;
  http::Limits http;
  std::string prefix_folder;                  ///< where kept states outlive the program; empty: nowhere
  std::uint64_t weights = 0, scratch = 0;     ///< bytes of the plan
  std::function<void(std::string_view)> log;  ///< a line; from any thread
};

class Service {
 public:
  /// Listens at once; every request is refused with 503 until run(). Throws Error(io) as http::Server does.
  Service(const http::Address& address, ServiceOptions options);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  const http::Address& address() const;
  /// Serves `model`, which is loaded and outlives this, until stop().
  void run(const Model& model);
  /// No new requests. Those under way have `seconds` to end; then they are cut. Returns when all is still.
  void stop(double seconds);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace tqkv::server
