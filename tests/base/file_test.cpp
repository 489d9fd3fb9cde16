#include "base/file.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "support/checkpoint_writer.h"
#include "support/failure.h"

using namespace tqkv;
using namespace tqkv::test;
namespace fs = std::filesystem;

namespace {

std::size_t files_in(const fs::path& directory) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(directory)) ++count;
  return count;
}

}  // namespace

TEST_CASE("a mapped file has the bytes of the file, and an empty one none") {
  const TemporaryDirectory directory;
  write_file(directory / "a", "hello");
  write_file(directory / "empty", "");
  const MappedFile file(directory / "a");
  CHECK(std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()) == "hello");
  CHECK(MappedFile(directory / "empty").bytes().empty());
  CHECK(read_text(directory / "a") == "hello");
  CHECK(read_text(directory / "empty").empty());
}

#if defined(__linux__)
TEST_CASE("a mapped file asks for large pages where the system has them") {
  if (!fs::exists("/sys/kernel/mm/transparent_hugepage")) return;
  const TemporaryDirectory directory;
  write_file(directory / "weights", std::string(100000, 'w'));
  const MappedFile file(directory / "weights");
  std::ifstream maps("/proc/self/smaps");
  bool own = false, told = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("weights") != std::string::npos) own = true;
    if (!own || !line.starts_with("VmFlags:")) continue;
    told = true;
    CHECK(line.find(" hg") != std::string::npos);
    break;
  }
  WARN(told);  // not every container tells
}
#endif

TEST_CASE("mapped bytes that were let go are read again, whatever part of their pages it was") {
  const TemporaryDirectory directory;
  std::string text(100'000, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 23);
  directory.write("file", text);
  const MappedFile file(directory / "file");
  const auto same = [&] {
    return std::equal(text.begin(), text.end(), reinterpret_cast<const char*>(file.bytes().data()));
  };
  REQUIRE(same());
  for (const auto& [first, count] : {std::pair(0, 100'000), std::pair(17, 70'001), std::pair(5, 3), std::pair(9, 0)}) {
    let_go(file.bytes().subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)));
    CHECK(same());
  }
}

TEST_CASE("a file that cannot be read is named with the reason") {
  const TemporaryDirectory directory;
  const auto message = failure(ErrorKind::io, [&] { read_text(directory / "none"); });
  CHECK(contains(message, (directory / "none").string() + ": cannot be opened: No such file"));
  CHECK(contains(failure(ErrorKind::io, [&] { MappedFile(directory / "none"); }), "No such file"));
  CHECK(contains(failure(ErrorKind::io, [&] { MappedFile(directory.path()); }), "is not a regular file"));
  CHECK(contains(failure(ErrorKind::io, [&] { read_text(directory.path()); }), "Is a directory"));
}

TEST_CASE("a file above the limit is refused, one of exactly the limit is read") {
  const TemporaryDirectory directory;
  write_file(directory / "a", std::string(100000, 'x'));
  CHECK(read_text(directory / "a", 100000).size() == 100000);
  CHECK(contains(failure(ErrorKind::io, [&] { read_text(directory / "a", 99999); }), "more than 99999 bytes"));
}

TEST_CASE("a written file is absent until it is complete") {
  const TemporaryDirectory directory;
  const fs::path path = directory / "new" / "folder" / "a.json";
  AtomicFile file(path);
  file.write("one ");
  CHECK(!fs::exists(path));
  file.write("two");
  file.commit();
  CHECK(read_text(path) == "one two");
  CHECK(files_in(path.parent_path()) == 1);
}

TEST_CASE("parts of a file are written in any order") {
  const TemporaryDirectory directory;
  AtomicFile file(directory / "a");
  file.write("head");
  file.write_at(8, std::as_bytes(std::span("tail", 4)));
  file.write_at(4, std::as_bytes(std::span("body", 4)));
  file.commit();
  CHECK(read_text(directory / "a") == "headbodytail");
}

TEST_CASE("a file that is given up leaves nothing, and what was there before stays") {
  const TemporaryDirectory directory;
  write_file(directory / "a", "old");
  {
    AtomicFile file(directory / "a");
    file.write("new");
  }
  CHECK(read_text(directory / "a") == "old");
  CHECK(files_in(directory.path()) == 1);
  AtomicFile file(directory / "a");
  file.write("new");
  file.commit();
  CHECK(read_text(directory / "a") == "new");
}

TEST_CASE("writing through a link keeps the link") {
  const TemporaryDirectory directory;
  write_file(directory / "a", "old");
  fs::create_symlink("a", directory / "link");
  AtomicFile file(directory / "link");
  file.write("new");
  file.commit();
  CHECK(fs::is_symlink(directory / "link"));
  CHECK(read_text(directory / "a") == "new");
}

TEST_CASE("a link to a file that is not there yet stays a link, and the file appears where it points") {
  const TemporaryDirectory directory;
  fs::create_directory(directory / "other");
  fs::create_symlink("other/second", directory / "first");
  fs::create_symlink("file", directory / "other" / "second");
  AtomicFile file(directory / "first");
  file.write("new");
  file.commit();
  CHECK(fs::is_symlink(directory / "first"));
  CHECK(fs::is_symlink(directory / "other" / "second"));
  CHECK(fs::is_regular_file(fs::symlink_status(directory / "other" / "file")));
  CHECK(read_text(directory / "first") == "new");
  fs::create_symlink("b", directory / "a");
  fs::create_symlink("a", directory / "b");
  CHECK(contains(failure(ErrorKind::io, [&] { AtomicFile(directory / "a"); }), "Too many levels of symbolic links"));
  CHECK(fs::is_symlink(directory / "a"));
}

TEST_CASE("a file that is replaced keeps its permissions, and a new one has those asked for") {
  const TemporaryDirectory directory;
  const auto mode_of = [](const fs::path& path) {
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    return status.st_mode & 07777u;
  };
  const mode_t before = ::umask(022);
  const auto write = [&](const char* name, unsigned mode) {
    AtomicFile file(directory / name, mode);
    file.write("text");
    file.commit();
  };
  write("public", 0666);
  write("private", 0600);
  CHECK(mode_of(directory / "public") == 0644);
  CHECK(mode_of(directory / "private") == 0600);
  for (const mode_t mode : {0640u, 0600u, 0664u}) {
    REQUIRE(::chmod((directory / "public").c_str(), mode) == 0);
    write("public", 0666);
    CHECK(mode_of(directory / "public") == mode);
    write("public", 0600);
    CHECK(mode_of(directory / "public") == mode);
  }
  ::umask(before);
}

TEST_CASE("a file that is protected from writing is not replaced, although its folder would allow it") {
  const TemporaryDirectory folder;
  const fs::path file = folder.write("protected", "as it was");
  fs::permissions(folder.path(), fs::perms::all);
  fs::permissions(file, fs::perms::owner_read | fs::perms::others_read);
  const bool root = ::geteuid() == 0;  // may write to all files
  if (root) REQUIRE(::seteuid(65534) == 0);
  const std::string message = failure(ErrorKind::io, [&] { AtomicFile{file}; });
  if (root) REQUIRE(::seteuid(0) == 0);
  CHECK(message.find("Permission denied") != std::string::npos);
  CHECK(read_text(file) == "as it was");
}

TEST_CASE("a name that is as long as names may be is written, and a longer one is an error") {
  const TemporaryDirectory directory;
  const std::string longest(255, 'n');
  AtomicFile file(directory / longest);
  file.write("text");
  file.commit();
  CHECK(read_text(directory / longest) == "text");
  CHECK(
      contains(failure(ErrorKind::io, [&] { AtomicFile(directory / std::string(5000, 'n')); }), "File name too long"));
}

TEST_CASE("temporary files are removed by their list, and finished ones are not on it") {
  const TemporaryDirectory directory;
  AtomicFile finished(directory / "finished"), open(directory / "open");
  finished.write("text");
  open.write("text");
  finished.commit();
  CHECK(files_in(directory.path()) == 2);
  const pid_t child = ::fork();  // as a signal does it: the process ends after that
  if (child == 0) {
    remove_temporaries();
    ::_exit(0);
  }
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  CHECK(files_in(directory.path()) == 1);
  CHECK(read_text(directory / "finished") == "text");
}

TEST_CASE("an output that cannot be written is an error that names it") {
  const TemporaryDirectory directory;
  write_file(directory / "a", "");
  CHECK(contains(failure(ErrorKind::io, [&] { AtomicFile(directory.path()); }), "Is a directory"));
  CHECK(contains(failure(ErrorKind::io, [&] { AtomicFile(directory / "a" / "b"); }), (directory / "a").string()));
  CHECK(contains(failure(ErrorKind::io, [&] { AtomicFile(""); }), "is not the name of a file"));
  if (::geteuid() == 0) {
    MESSAGE("root may write everywhere: the folder without permission is skipped");
  } else {
    ::chmod(directory.path().c_str(), 0500);
    CHECK(contains(failure(ErrorKind::io, [&] { AtomicFile(directory / "b"); }), "Permission denied"));
    ::chmod(directory.path().c_str(), 0700);
  }
}

TEST_CASE("devices are written to and not replaced") {
  {
    AtomicFile null("/dev/null");
    null.write("gone");
    null.commit();
  }
  CHECK(fs::is_character_file("/dev/null"));
#if defined(__linux__)
  AtomicFile full("/dev/full");
  CHECK(contains(failure(ErrorKind::io, [&] { full.write("x"); }), "/dev/full: cannot be written: No space left"));
#endif
}

TEST_CASE("when the disk is full in the middle of a file no file appears") {
  const TemporaryDirectory directory;
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // A limit on the size of files stands in for the end of the disk: the write past it comes back short, then fails.
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int code = 1;
    try {
      AtomicFile file(directory / "a");
      file.write(std::string(900, 'x'));
      file.write(std::string(900, 'y'));
      file.commit();
    } catch (const Error& error) {
      code = error.kind() == ErrorKind::io && contains(error.what(), "cannot be written: File too large") ? 0 : 2;
    }
    ::_exit(code);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(files_in(directory.path()) == 0);
}
