#include "cli/terminal/interrupt.h"

#include <pthread.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/temporaries.h"

namespace tqkv::cli {
namespace {

// A signal handler reaches nothing but globals.
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);
termios terminal{};  // written before any handler is there
bool has_terminal = false;
std::atomic<const char*> terminal_reset{nullptr}, stop_notice{nullptr};
static_assert(std::atomic<const char*>::is_always_lock_free);

void set_handler(int signal, void (*handler)(int), struct sigaction* before = nullptr) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(signal, &action, before);
}

// Makes only calls that a signal handler may make.
extern "C" void end_by(int signal) {
  remove_temporaries();
  // A line editor may have left it without echo. A background job must not touch it.
  if (has_terminal && ::tcgetpgrp(STDIN_FILENO) == ::getpgrp()) {
    ::tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
    if (const char* sequence = terminal_reset.load())
      static_cast<void>(!::write(STDOUT_FILENO, sequence, std::strlen(sequence)));
  }
  set_handler(signal, SIG_DFL);
  sigset_t unblocked;
  sigemptyset(&unblocked);
  sigaddset(&unblocked, signal);
  pthread_sigmask(SIG_UNBLOCK, &unblocked, nullptr);
  ::raise(signal);
  ::_exit(128 + signal);  // process 1 of a container has no default action
}

void note_stop() {
  const int before = errno;
  if (const char* text = stop_notice.load()) static_cast<void>(!::write(STDERR_FILENO, text, std::strlen(text)));
  errno = before;
}

extern "C" void on_interrupt(int) {
  if (!interrupted.exchange(true)) note_stop();
}

extern "C" void on_interrupt_or_end(int signal) {
  if (interrupted.exchange(true)) end_by(signal);
  note_stop();
}

}  // namespace

void end_on_signals() {
  has_terminal = ::tcgetattr(STDIN_FILENO, &terminal) == 0;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before {};
    set_handler(signal, end_by, &before);
    if (before.sa_handler == SIG_IGN) sigaction(signal, &before, nullptr);
  }
  set_handler(SIGXFSZ, SIG_IGN);
  set_handler(SIGPIPE, SIG_IGN);
}

bool take_interrupt() {
  return interrupted.exchange(false);
}

void set_terminal_reset(const char* sequence) {
  terminal_reset.store(sequence);
}

void set_stop_notice(const char* text) {
  stop_notice.store(text);
}

Interrupt::Interrupt(Second second) {
  interrupted.store(false);
  set_handler(SIGINT, second == Second::kills ? on_interrupt_or_end : on_interrupt, &before_);
  // A program started to ignore SIGINT, as a shell's background jobs are, goes on ignoring it.
  if (before_.sa_handler == SIG_IGN) sigaction(SIGINT, &before_, nullptr);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &before_, nullptr);
}

const std::atomic<bool>* Interrupt::flag() const {
  return &interrupted;
}

}  // namespace tqkv::cli
