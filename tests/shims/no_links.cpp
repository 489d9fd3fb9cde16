// Preloaded into the program: a file system that has neither locks nor links, as some network and user-space ones.
#include <cerrno>

extern "C" {

int flock(int, int) {
  errno = ENOSYS;
  return -1;
}

int symlink(const char*, const char*) {
  errno = EPERM;
  return -1;
}

int link(const char*, const char*) {
  errno = EPERM;
  return -1;
}
}
