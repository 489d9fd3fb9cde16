#include "server/http/exchange.h"

#include <utility>

#include "server/http/exchange_state.h"

namespace tqkv::http {

void Inbox::push(std::shared_ptr<ExchangeState> state) {
  const std::lock_guard lock(mutex_);
  if (!wake_) return;
  ready_.push_back(std::move(state));
  if (ready_.size() == 1) wake_();
}

std::vector<std::shared_ptr<ExchangeState>> Inbox::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(ready_, {});
}

void Inbox::close() {
  std::vector<std::shared_ptr<ExchangeState>> rest;  // outlives the lock: the end of an exchange may end others
  const std::lock_guard lock(mutex_);
  wake_ = nullptr;
  rest.swap(ready_);
}

ExchangeState::ExchangeState(Head its_head, std::string its_body, std::shared_ptr<BodyShare> share, std::size_t unread,
                             const std::shared_ptr<Inbox>& inbox)
    : head(std::move(its_head)),
      body(std::move(its_body)),
      unread_bytes(unread),
      connection(nullptr),
      share_(std::move(share)),
      inbox_(inbox) {}

template <class Change>
void ExchangeState::give(Phase phase, Phase next, const Change& change) {
  {
    const std::lock_guard lock(mutex_);
    if (phase_ != phase || gone) return;
    phase_ = next;
    change();
    if (std::exchange(queued_, true)) return;
  }
  if (const auto inbox = inbox_.lock()) inbox->push(shared_from_this());
}

void ExchangeState::answer(Answer answer) {
  require_answer(answer);
  give(Phase::waiting, Phase::finished, [&] { outgoing_.answer = std::move(answer); });
}

void ExchangeState::begin_stream(Headers headers, std::string heartbeat) {
  require_headers(headers);
  give(Phase::waiting, Phase::streaming, [&] {
    outgoing_.stream = std::move(headers);
    outgoing_.heartbeat = std::move(heartbeat);
  });
}

void ExchangeState::send(std::string text) {
  if (text.empty()) return;
  give(Phase::streaming, Phase::streaming, [&] {
    unsent += text.size();
    if (outgoing_.text.empty())
      outgoing_.text = std::move(text);
    else
      outgoing_.text += text;
  });
}

void ExchangeState::end() {
  give(Phase::streaming, Phase::finished, [&] { outgoing_.ended = true; });
}

void ExchangeState::abort() {
  give(Phase::waiting, Phase::finished, [&] { outgoing_.aborted = true; });
  give(Phase::streaming, Phase::finished, [&] { outgoing_.aborted = true; });
}

void ExchangeState::abandon() {
  give(Phase::waiting, Phase::finished, [&] { outgoing_.abandoned = true; });
  give(Phase::streaming, Phase::finished, [&] { outgoing_.aborted = true; });
}

Outgoing ExchangeState::take() {
  const std::lock_guard lock(mutex_);
  queued_ = false;
  return std::exchange(outgoing_, {});
}

void ExchangeState::on_gone(std::function<void()> callback) {
  bool call = false;
  {
    const std::lock_guard lock(mutex_);
    call = gone;
    if (!gone && phase_ != Phase::finished) on_gone_.swap(callback);
  }
  if (call && callback) callback();
}

void ExchangeState::leave(bool whole) {
  std::function<void()> callback;  // ends without the lock: it may hold this exchange
  bool call = false;
  {
    const std::lock_guard lock(mutex_);
    if (phase_ != Phase::finished && !whole) call = !gone.exchange(true);
    phase_ = Phase::finished;
    outgoing_ = {};
    callback.swap(on_gone_);
  }
  if (call && callback) callback();
}

Exchange::Exchange(std::shared_ptr<ExchangeState> state) : state_(std::move(state)) {}
Exchange::~Exchange() {
  state_->abandon();
}
const Head& Exchange::head() const {
  return state_->head;
}
const std::string& Exchange::body() const {
  return state_->body;
}
void Exchange::answer(Answer answer) {
  state_->answer(std::move(answer));
}
void Exchange::begin_stream(Headers headers, std::string heartbeat) {
  state_->begin_stream(std::move(headers), std::move(heartbeat));
}
void Exchange::send(std::string text) {
  state_->send(std::move(text));
}
void Exchange::end() {
  state_->end();
}
void Exchange::abort() {
  state_->abort();
}
std::size_t Exchange::unsent() const {
  return state_->unsent;
}
bool Exchange::full() const {
  return state_->unsent > state_->unread_bytes;
}
bool Exchange::gone() const {
  return state_->gone;
}
void Exchange::on_gone(std::function<void()> callback) {
  state_->on_gone(std::move(callback));
}

}  // namespace tqkv::http
