#include "base/descriptor.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace tqkv {
namespace {

bool must_wait(int error) {
  return error == EAGAIN || error == EWOULDBLOCK;
}

/// Returns at a signal too: the caller tries again, and waits again.
void wait_for(int descriptor, short event) {
  pollfd ready{descriptor, event, 0};
  static_cast<void>(::poll(&ready, 1, -1));
}

}  // namespace

ssize_t read_some(int descriptor, char* data, std::size_t size) {
  while (true) {
    const ssize_t count = ::read(descriptor, data, size);
    if (count >= 0) return count;
    if (must_wait(errno))
      wait_for(descriptor, POLLIN);
    else if (errno != EINTR)
      return -1;
  }
}

int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(descriptor, text.data(), text.size());
    if (count >= 0)
      text.remove_prefix(static_cast<std::size_t>(count));
    else if (must_wait(errno))
      wait_for(descriptor, POLLOUT);
    else if (errno != EINTR)
      return errno;
  }
  return 0;
}

bool wait_readable(int descriptor, int milliseconds) {
  pollfd ready{descriptor, POLLIN, 0};
  int count = 0;
  do count = ::poll(&ready, 1, milliseconds);
  while (count < 0 && errno == EINTR);
  return count != 0;
}

}  // namespace tqkv
