#include "server/http/address.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <thread>
#include <utility>

#include "tqkv/error.h"

namespace tqkv::http {
namespace {

/// A descriptor that is closed at the end of its scope.
class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return descriptor_; }
  int release() { return std::exchange(descriptor_, -1); }

 private:
  int descriptor_;
};

bool set_up(int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  return flags >= 0 && ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0 &&
         ::fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0;
}

void set_option(int descriptor, int level, int option, int value) {
  static_cast<void>(::setsockopt(descriptor, level, option, &value, sizeof value));
}

[[noreturn]] void fail(const Address& address, const std::string& problem) {
  throw Error(ErrorKind::io, fmt::format("{}: {}", address.text(), problem));
}

std::string problem_of(int error, std::uint16_t port) {
  if (error == EADDRINUSE) return "another program listens there; end it or choose another port";
  if (error == EACCES && port < 1024)
    return fmt::format("a port below 1024 needs more rights, found {}; choose one from 1024 on", port);
  if (error == EADDRNOTAVAIL) return "this machine does not have this address";
  return fmt::format("cannot listen there: {}", std::strerror(error));
}

/// A socket that listens on `address`, or -1 with errno set.
int listen_on(const sockaddr* address, socklen_t size) {
  Descriptor descriptor(::socket(address->sa_family, SOCK_STREAM, 0));
  if (descriptor.get() < 0 || !set_up(descriptor.get())) return -1;
  set_option(descriptor.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (address->sa_family == AF_INET6) {
    const bool any = IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr) != 0;
    set_option(descriptor.get(), IPPROTO_IPV6, IPV6_V6ONLY, any ? 0 : 1);  // :: is IPv4 as well
  }
  if (::bind(descriptor.get(), address, size) != 0 || ::listen(descriptor.get(), SOMAXCONN) != 0) return -1;
  return descriptor.release();
}

std::uint16_t port_of(int descriptor) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  if (::getsockname(descriptor, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                           : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
}

void set_port(sockaddr* address, std::uint16_t port) {
  if (address->sa_family == AF_INET6)
    reinterpret_cast<sockaddr_in6*>(address)->sin6_port = htons(port);
  else
    reinterpret_cast<sockaddr_in*>(address)->sin_port = htons(port);
}

bool is_loopback(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET)
    return (ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr) >> 24) == 127;
  if (address.ss_family != AF_INET6) return false;
  const in6_addr& number = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&number) || (IN6_IS_ADDR_V4MAPPED(&number) && number.s6_addr[12] == 127);
}

/// Two servers that begin at once must not remove each other's socket: the folder is locked, as far as it can be.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder)
      : folder_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    for (int tries = 0; folder_.get() >= 0 && tries < 100; ++tries) {
      if (::flock(folder_.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }

 private:
  Descriptor folder_;
};

}  // namespace

std::string Address::text() const {
  if (!unix_path.empty()) return "unix:" + unix_path;
  const bool brackets = host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}", brackets ? "[" : "", host, brackets ? "]" : "", port);
}

Listening::Listening(Address address) : address_(std::move(address)) {
  try {
    if (address_.unix_path.empty())
      listen_on_host();
    else
      listen_on_path();
  } catch (...) {
    close();
    throw;
  }
}

Listening::~Listening() {
  close();
}

void Listening::close() {
  for (const int descriptor : std::exchange(descriptors_, {})) ::close(descriptor);
  struct stat found {};
  if (inode_ != 0 && ::lstat(address_.unix_path.c_str(), &found) == 0 && found.st_ino == inode_ &&
      static_cast<std::uint64_t>(found.st_dev) == device_)
    ::unlink(address_.unix_path.c_str());
  inode_ = 0;
}

namespace {

/// What getaddrinfo() says of a host. localhost is this machine also where nobody wrote that down (RFC 6761).
int find_host(const std::string& host, addrinfo** list) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  const int problem = host.empty() ? EAI_NONAME : ::getaddrinfo(host.c_str(), nullptr, &hints, list);
  if (problem == 0 || host != "localhost") return problem;
  return ::getaddrinfo("127.0.0.1", nullptr, &hints, list);
}

}  // namespace

void Listening::listen_on_host() {
  addrinfo* list = nullptr;
  const int unknown = find_host(address_.host, &list);
  if (unknown != 0) fail(address_, fmt::format("this host is not known here: {}", ::gai_strerror(unknown)));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owned(list, ::freeaddrinfo);
  const std::uint16_t wanted = address_.port;
  for (int tries = 1;; ++tries) {
    const int problem = listen_on_each(list);
    if (problem == 0) return;
    // The port that is free at one address may be taken at the next.
    const bool again = problem == EADDRINUSE && wanted == 0 && tries < 10;
    if (!again) fail(address_, problem_of(problem, address_.port));
    close();
    address_.port = wanted;
  }
}

/// 0, or errno. A name may have addresses that this machine lacks: one is enough, but none may be taken.
int Listening::listen_on_each(addrinfo* list) {
  int problem = 0;
  for (const addrinfo* one = list; one; one = one->ai_next) {
    if (one->ai_family != AF_INET && one->ai_family != AF_INET6) continue;
    set_port(one->ai_addr, address_.port);
    const int descriptor = listen_on(one->ai_addr, one->ai_addrlen);
    if (descriptor >= 0) {
      descriptors_.push_back(descriptor);
      address_.port = port_of(descriptor);
    } else if (problem == 0 || errno == EADDRINUSE) {
      problem = errno;
    }
  }
  return descriptors_.empty() || problem == EADDRINUSE ? (problem == 0 ? EADDRNOTAVAIL : problem) : 0;
}

void Listening::listen_on_path() {
  const std::string& path = address_.unix_path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path || path.find('\0') != std::string::npos)
    fail(address_, fmt::format("the path of a unix socket has at most {} bytes, found {}", sizeof address.sun_path - 1,
                               path.size()));
  path.copy(address.sun_path, path.size());
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);

  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const FolderLock lock(folder.empty() ? "." : folder);
  struct stat found {};
  if (::lstat(path.c_str(), &found) == 0) {
    if (!S_ISSOCK(found.st_mode)) fail(address_, "a file that is no socket is there; choose another path");
    const Descriptor client(::socket(AF_UNIX, SOCK_STREAM, 0));
    if (client.get() < 0 || !set_up(client.get())) fail(address_, std::strerror(errno));
    if (::connect(client.get(), generic, sizeof address) == 0 || errno != ECONNREFUSED)
      fail(address_, "another server listens there; end it or choose another path");
    ::unlink(path.c_str());  // of a server that ended without removing it
  }
  Descriptor descriptor(::socket(AF_UNIX, SOCK_STREAM, 0));
  if (descriptor.get() < 0 || !set_up(descriptor.get()) || ::bind(descriptor.get(), generic, sizeof address) != 0)
    fail(address_, fmt::format("cannot listen there: {}", std::strerror(errno)));
  descriptors_.push_back(descriptor.release());
  if (::lstat(path.c_str(), &found) == 0) {
    device_ = static_cast<std::uint64_t>(found.st_dev);
    inode_ = found.st_ino;
  }
  // Nobody can connect before listen(): the mode is there in time.
  if (::chmod(path.c_str(), 0600) != 0 || ::listen(descriptors_.back(), SOMAXCONN) != 0)
    fail(address_, fmt::format("cannot listen there: {}", std::strerror(errno)));
}

int accept_from(int descriptor, [[maybe_unused]] std::chrono::milliseconds unread_time, bool& local) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  Descriptor accepted(::accept(descriptor, reinterpret_cast<sockaddr*>(&peer), &size));
  if (accepted.get() < 0) return -1;
  if (!set_up(accepted.get())) return -1;
  sockaddr_storage own{};
  socklen_t own_size = sizeof own;
  const bool known = ::getsockname(accepted.get(), reinterpret_cast<sockaddr*>(&own), &own_size) == 0;
  const bool is_unix = known && own.ss_family == AF_UNIX;
  local = is_unix || is_loopback(peer);
  constexpr int send_buffer = 64 << 10;  // small, so that Exchange::unsent() soon tells who does not read
  set_option(accepted.get(), SOL_SOCKET, SO_SNDBUF, send_buffer);
#if defined(SO_NOSIGPIPE)
  set_option(accepted.get(), SOL_SOCKET, SO_NOSIGPIPE, 1);
#endif
  if (!is_unix) {
    set_option(accepted.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(accepted.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
#if defined(TCP_USER_TIMEOUT)
    set_option(accepted.get(), IPPROTO_TCP, TCP_USER_TIMEOUT,
               static_cast<int>(unread_time.count()));  // a machine that is gone says nothing
#endif
#if defined(TCP_KEEPIDLE)
    set_option(accepted.get(), IPPROTO_TCP, TCP_KEEPIDLE, 30);
    set_option(accepted.get(), IPPROTO_TCP, TCP_KEEPINTVL, 10);
#endif
  }
  return accepted.release();
}

}  // namespace tqkv::http
