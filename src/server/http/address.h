// Where a server listens.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

struct addrinfo;

namespace tqkv::http {

/// A host with a port, or the path of a unix socket.
struct Address {
  std::string host = "127.0.0.1";  ///< a name or a number, IPv6 without brackets
  std::uint16_t port = 0;          ///< 0: one that is free
  std::string unix_path;           ///< when not empty: this instead

  /// "http://127.0.0.1:8080", "http://[::1]:8080", "unix:/run/tqkv.sock".
  std::string text() const;
};

/// Sockets that listen, closed at the end. A name such as localhost may have several. A unix socket has mode 0600 and
/// is removed at the end, where it is still ours.
class Listening {
 public:
  /// Throws Error(io): a name that does not resolve, an address in use, a port that needs more rights, a path that is
  /// too long, that another server listens on, or that holds something else than a socket.
  explicit Listening(Address address);
  ~Listening();
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;

  /// With the port that was chosen.
  const Address& address() const { return address_; }
  /// Descriptors, which do not block. They belong to this object.
  const std::vector<int>& descriptors() const { return descriptors_; }
  void close();

 private:
  void listen_on_host();
  int listen_on_each(addrinfo* list);
  void listen_on_path();

  Address address_;
  std::vector<int> descriptors_;
  std::uint64_t device_ = 0, inode_ = 0;  ///< of the unix socket's file
};

/// The next connection of a listening socket, which does not block and is not inherited by programs that are started:
/// its descriptor, or -1 with errno set. It is lost when what was sent stays unconfirmed for `unread_time`. `local`:
/// whether its other end is on this machine for certain.
int accept_from(int descriptor, std::chrono::milliseconds unread_time, bool& local);

}  // namespace tqkv::http
