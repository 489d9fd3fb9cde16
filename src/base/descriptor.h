// Descriptors that may be in non-blocking mode, as an event loop leaves those that its children inherit: both functions
// wait instead of failing, and the mode stays as it is, since it belongs to everyone who shares the descriptor.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <string_view>

namespace tqkv {

/// Reads up to `size` bytes, waiting for the first: their number, 0 at the end, or -1 with errno set.
ssize_t read_some(int descriptor, char* data, std::size_t size);

/// Writes all of `text`: 0, or errno. A signal handler may call it.
int write_all(int descriptor, std::string_view text);

/// Whether something can be read, the end included, within `milliseconds` (-1: however long it takes).
bool wait_readable(int descriptor, int milliseconds);

}  // namespace tqkv
