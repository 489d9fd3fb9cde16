// longjmp changes stacks here, which its checked form takes for a mistake.
#undef _FORTIFY_SOURCE
#include "machine.h"

#include <ucontext.h>
#include <csetjmp>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#if defined(TQKV_ADDRESS_SANITIZER)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(TQKV_THREAD_SANITIZER)  // which looks at the kernel: this file is compiled without it
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
extern "C" void AnnotateIgnoreSyncBegin(const char* file, int line);
extern "C" void AnnotateIgnoreSyncEnd(const char* file, int line);
#endif

namespace tqkv::test::emulator {
namespace {

/// What lanes do that meet. Names are those of the text.
struct Place {
  const char* what = nullptr;
  int line = 0;
  bool operator==(const Place& other) const { return line == other.line && std::strcmp(what, other.what) == 0; }
  std::string describe() const { return std::string(what) + " in line " + std::to_string(line); }
};

using Brought = std::array<unsigned char, most_exchanged_bytes>;

class Machine {
 public:
  virtual ~Machine() = default;
  virtual void exchange(Place place, const void* brought, unsigned bytes, void* all) = 0;
  virtual void barrier(Place place) = 0;
  virtual unsigned lane() = 0;
  virtual void fresh(void* memory, std::size_t bytes) = 0;
};

Machine* machine = nullptr;  // the one that runs: one at a time

Position position_of(const Launch& launch, const std::array<int, 3>& group, int thread) {
  const auto three = [](int x, int y, int z) {
    return Three{static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z)};
  };
  const auto groups = [&](int i) { return (launch.grid[i] + launch.group[i] - 1) / launch.group[i]; };
  const std::array<int, 3> at = {thread % launch.group[0], thread / launch.group[0] % launch.group[1],
                                 thread / launch.group[0] / launch.group[1]};
  Position position{};
  position.thread_position_in_grid =
      three(group[0] * launch.group[0] + at[0], group[1] * launch.group[1] + at[1], group[2] * launch.group[2] + at[2]);
  position.thread_position_in_threadgroup = three(at[0], at[1], at[2]);
  position.threadgroup_position_in_grid = three(group[0], group[1], group[2]);
  position.threadgroups_per_grid = three(groups(0), groups(1), groups(2));
  position.threads_per_threadgroup = three(launch.group[0], launch.group[1], launch.group[2]);
  position.thread_index_in_threadgroup = static_cast<unsigned>(thread);
  position.simdgroup_index_in_threadgroup = static_cast<unsigned>(thread / simdgroup_lanes);
  position.thread_index_in_simdgroup = static_cast<unsigned>(thread % simdgroup_lanes);
  return position;
}

/// A group at the edge of the grid has what is left of it, in the first extent alone.
int threads_of(const Launch& launch, const std::array<int, 3>& group) {
  if (launch.grid[1] % launch.group[1] != 0 || launch.grid[2] % launch.group[2] != 0)
    throw std::runtime_error("the grid ends within a group");
  const int wide = std::min(launch.group[0], launch.grid[0] - group[0] * launch.group[0]);
  if (wide != launch.group[0] && launch.group[1] * launch.group[2] != 1)
    throw std::runtime_error("the grid ends within a group");
  const int threads = wide * launch.group[1] * launch.group[2];
  if (threads % simdgroup_lanes != 0) throw std::runtime_error("a simdgroup of fewer than 32 lanes");
  return threads;
}

std::vector<std::array<int, 3>> groups_of(const Launch& launch) {
  std::vector<std::array<int, 3>> groups;
  for (int z = 0; z * launch.group[2] < launch.grid[2]; ++z)
    for (int y = 0; y * launch.group[1] < launch.grid[1]; ++y)
      for (int x = 0; x * launch.group[0] < launch.grid[0]; ++x) groups.push_back({x, y, z});
  return groups;
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du) {}
  std::size_t below(std::size_t bound) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<std::size_t>(state_ >> 11) % bound;
  }

 private:
  std::uint64_t state_;
};

// ---- coroutines

class Coroutines : public Machine {
 public:
  explicit Coroutines(const Launch& launch) : launch_(launch), random_(launch.seed) {}

  void run() {
    std::vector<std::array<int, 3>> groups = groups_of(launch_);
    if (launch_.seed != 0)
      for (std::size_t i = groups.size(); i > 1; --i) std::swap(groups[i - 1], groups[random_.below(i)]);
    for (const std::array<int, 3>& group : groups) run_group(group);
  }

  void exchange(Place place, const void* brought, unsigned bytes, void* all) override {
    const std::size_t number = current_;
    Lane& self = lanes_[number];
    std::memcpy(self.brought.data(), brought, bytes);
    wait(State::simdgroup, place);
    const Brought* given = exchanged_.data() + number / simdgroup_lanes * simdgroup_lanes;
    for (int i = 0; i < simdgroup_lanes; ++i) std::memcpy(static_cast<char*>(all) + i * bytes, given[i].data(), bytes);
  }
  void barrier(Place place) override { wait(State::threadgroup, place); }
  unsigned lane() override { return static_cast<unsigned>(current_ % simdgroup_lanes); }
  void fresh(void* memory, std::size_t bytes) override {
    if (filled_.insert(memory).second) std::memset(memory, 0xff, bytes);
  }

 private:
  enum class State { ready, simdgroup, threadgroup, done };
  /// Where a lane, or what runs them, is when it does not run.
  struct Stack {
    ucontext_t context{};
    bool left = false;
    jmp_buf place{};
    void* fake = nullptr;  // the address sanitizer's
    const void* memory = nullptr;
    std::size_t bytes = 0;
  };
  struct Lane {
    State state = State::ready;
    Place place;
    Brought brought{};
    Position position{};
    Stack stack;
  };
  static constexpr std::size_t stack_bytes = 65536 * 2;

  void run_group(const std::array<int, 3>& group) {
    const auto threads = static_cast<std::size_t>(threads_of(launch_, group));
    lanes_ = std::vector<Lane>(threads);
    exchanged_.assign(threads, {});
    while (stacks_.size() < threads) stacks_.emplace_back(new char[stack_bytes]);
    filled_.clear();
    ready_.clear();
    waiting_ = 0;
    in_simdgroup_.assign(threads / simdgroup_lanes, 0);
    finished_ = 0;
    for (std::size_t i = 0; i < threads; ++i) {
      Lane& lane = lanes_[i];
      lane.position = position_of(launch_, group, static_cast<int>(i));
      ucontext_t& context = lane.stack.context;
      getcontext(&context);
      lane.stack.memory = context.uc_stack.ss_sp = stacks_[i].get();
      lane.stack.bytes = context.uc_stack.ss_size = stack_bytes;
      context.uc_link = nullptr;
      makecontext(&context, &Coroutines::begin, 0);
      ready_.push_back(i);
    }
    current_ = next();
    switch_to(main_, lanes_[current_].stack, false);
    if (!problem_.empty()) throw std::runtime_error(problem_);
  }

  static void begin() {
    auto& self = static_cast<Coroutines&>(*machine);
#if defined(TQKV_ADDRESS_SANITIZER)
    self.arrived(nullptr);
#endif
    self.launch_.lane(self.launch_.buffers.data(), &self.lanes_[self.current_].position);
    self.leave();
  }

  // A lane waits, and another one goes on. It comes back when all that it waits for are there.
  void wait(State state, Place place) {
    const std::size_t number = current_;
    Lane& self = lanes_[number];
    self.state = state;
    self.place = place;
    if (state == State::simdgroup) {
      if (++in_simdgroup_[number / simdgroup_lanes] == simdgroup_lanes) meet_simdgroup(number / simdgroup_lanes);
    } else if (++waiting_ == lanes_.size()) {
      meet_threadgroup();
    }
    go_on(number, false);
  }

  void leave() {
    lanes_[current_].state = State::done;
    ++finished_;
    go_on(current_, true);
  }

  void go_on(std::size_t from, bool for_ever) {
    if (problem_.empty() && ready_.empty() && finished_ < lanes_.size()) tell_where_lanes_are();
    Lane& self = lanes_[from];
    if (!problem_.empty() || ready_.empty()) {
      switch_to(self.stack, main_, for_ever);
      return;
    }
    current_ = next();
    if (current_ != from) switch_to(self.stack, lanes_[current_].stack, for_ever);
  }

  /// Lanes in ascending order, in descending order, one as far as it comes, or any.
  std::size_t next() {
    std::size_t at = 0;
    switch (launch_.seed % 4) {
      case 0:
        at = static_cast<std::size_t>(std::min_element(ready_.begin(), ready_.end()) - ready_.begin());
        break;
      case 1:
        at = static_cast<std::size_t>(std::max_element(ready_.begin(), ready_.end()) - ready_.begin());
        break;
      case 2:
        at = ready_.size() - 1;
        break;
      default:
        at = random_.below(ready_.size());
    }
    const std::size_t lane = ready_[at];
    ready_[at] = ready_.back();
    ready_.pop_back();
    return lane;
  }

  void meet_simdgroup(std::size_t simdgroup) {
    in_simdgroup_[simdgroup] = 0;
    const std::size_t first = simdgroup * simdgroup_lanes;
    for (std::size_t i = first; i < first + simdgroup_lanes; ++i) {
      if (!(lanes_[i].place == lanes_[first].place)) return tell_where_lanes_are();
      exchanged_[i] = lanes_[i].brought;
      lanes_[i].state = State::ready;
      ready_.push_back(i);
    }
  }

  void meet_threadgroup() {
    waiting_ = 0;
    for (std::size_t i = 0; i < lanes_.size(); ++i) {
      if (!(lanes_[i].place == lanes_[0].place)) return tell_where_lanes_are();
      lanes_[i].state = State::ready;
      ready_.push_back(i);
    }
  }

  void tell_where_lanes_are() {
    std::map<std::string, int> counts;
    for (const Lane& lane : lanes_) ++counts[lane.state == State::done ? "the end" : lane.place.describe()];
    problem_ = "lanes do not meet:";
    for (const auto& [where, count] : counts) problem_ += " " + std::to_string(count) + " at " + where + ",";
    problem_.pop_back();
  }

#if defined(TQKV_ADDRESS_SANITIZER)
  void switch_to(Stack& from, Stack& to, bool for_ever) {
    __sanitizer_start_switch_fiber(for_ever ? nullptr : &from.fake, to.memory, to.bytes);
    swapcontext(&from.context, &to.context);
    arrived(from.fake);
  }
  void arrived(void* fake) {
    const void* memory = nullptr;
    std::size_t bytes = 0;
    __sanitizer_finish_switch_fiber(fake, &memory, &bytes);
    if (main_.memory == nullptr) {  // the first switch comes from there
      main_.memory = memory;
      main_.bytes = bytes;
    }
  }
#else
  void switch_to(Stack& from, Stack& to, bool) {
    from.left = true;
    if (_setjmp(from.place) != 0) return;
    if (to.left) _longjmp(to.place, 1);  // unlike swapcontext without a call of the system
    setcontext(&to.context);
  }
#endif

  const Launch& launch_;
  Random random_;
  std::vector<std::unique_ptr<char[]>> stacks_;
  std::vector<Lane> lanes_;
  std::vector<Brought> exchanged_;
  std::vector<std::size_t> ready_;
  std::vector<int> in_simdgroup_;
  std::set<void*> filled_;
  std::size_t current_ = 0, waiting_ = 0, finished_ = 0;
  Stack main_;
  std::string problem_;
};

// ---- threads

/// What is between begin and end orders nothing for the thread sanitizer.
void ignore_order([[maybe_unused]] bool begin) {
#if defined(TQKV_THREAD_SANITIZER)
  if (begin)
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
  else
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
#endif
}

/// Lanes that wait for one another. The thread sanitizer does not see how they wait, which would order more than a
/// barrier does: where `ordered` is true it is told that all who come are before all who leave. Where it is false, it
/// takes nothing for done: lanes of a simdgroup that exchange numbers have not written their memory yet.
class Meeting {
 public:
  Meeting(int count, bool ordered) : count_(count), ordered_(ordered) {}
  /// The caller's times before this one.
  void meet([[maybe_unused]] unsigned times) {
#if defined(TQKV_THREAD_SANITIZER)
    if (ordered_) __tsan_release(&order_[times % 2]);
#endif
    ignore_order(true);
    {
      std::unique_lock lock(mutex_);
      const int round = round_;
      if (++here_ == count_) {
        here_ = 0;
        ++round_;
        all_here_.notify_all();
      } else {
        all_here_.wait(lock, [&] { return round_ != round; });
      }
    }
    ignore_order(false);
#if defined(TQKV_THREAD_SANITIZER)
    if (ordered_) __tsan_acquire(&order_[times % 2]);
#endif
  }

 private:
  int count_, here_ = 0, round_ = 0;
  [[maybe_unused]] bool ordered_;
  [[maybe_unused]] std::array<char, 2> order_{};  // of even times and of odd ones, for its address
  std::mutex mutex_;
  std::condition_variable all_here_;
};

thread_local std::size_t own_number = 0;
thread_local unsigned own_barriers = 0;

class Threads : public Machine {
 public:
  explicit Threads(const Launch& launch) : launch_(launch) {}

  void run() {
    for (const std::array<int, 3>& group : groups_of(launch_)) {
      const auto threads = static_cast<std::size_t>(threads_of(launch_, group));
      filled_.clear();
      brought_.assign(threads, {});
      all_ = std::make_unique<Meeting>(static_cast<int>(threads), true);
      simdgroups_.clear();
      for (std::size_t i = 0; i < threads / simdgroup_lanes; ++i)
        simdgroups_.push_back(std::make_unique<Meeting>(simdgroup_lanes, false));
      std::vector<std::thread> lanes;
      for (std::size_t i = 0; i < threads; ++i)
        lanes.emplace_back([&, i] {
          own_number = i;
          const Position position = position_of(launch_, group, static_cast<int>(i));
          launch_.lane(launch_.buffers.data(), &position);
        });
      for (std::thread& lane : lanes) lane.join();
    }
  }

  void exchange(Place, const void* brought, unsigned bytes, void* all) override {
    Meeting& meeting = *simdgroups_[own_number / simdgroup_lanes];
    const std::size_t first = own_number / simdgroup_lanes * simdgroup_lanes;
    copy(brought_[own_number].data(), brought, bytes);
    meeting.meet(0);
    for (std::size_t i = 0; i < simdgroup_lanes; ++i)
      copy(static_cast<unsigned char*>(all) + i * bytes, brought_[first + i].data(), bytes);
    meeting.meet(0);
  }
  void barrier(Place) override { all_->meet(own_barriers++); }
  unsigned lane() override { return static_cast<unsigned>(own_number % simdgroup_lanes); }
  void fresh(void* memory, std::size_t bytes) override {
    ignore_order(true);
    mutex_.lock();
    if (filled_.insert(memory).second)
      for (std::size_t i = 0; i < bytes; ++i) static_cast<volatile unsigned char*>(memory)[i] = 0xff;
    mutex_.unlock();
    ignore_order(false);
  }

 private:
  /// Not memcpy: the thread sanitizer would look into that.
  static void copy(unsigned char* to, const void* from, unsigned bytes) {
    for (unsigned i = 0; i < bytes; ++i) to[i] = static_cast<const volatile unsigned char*>(from)[i];
  }

  const Launch& launch_;
  std::mutex mutex_;
  std::set<void*> filled_;
  std::vector<Brought> brought_;
  std::unique_ptr<Meeting> all_;
  std::vector<std::unique_ptr<Meeting>> simdgroups_;
};

template <typename Kind>
void run_on(const Launch& launch) {
  Kind kind(launch);
  machine = &kind;
  try {
    kind.run();
  } catch (...) {
    machine = nullptr;
    throw;
  }
  machine = nullptr;
}

}  // namespace

const Host& host() {
  static const Host functions = {[](const char* what, int line, const void* brought, unsigned bytes, void* all) {
                                   machine->exchange({what, line}, brought, bytes, all);
                                 },
                                 [](const char* what, int line) {
                                   machine->barrier({what, line});
                                 },
                                 [] { return machine->lane(); },
                                 [](void* memory, unsigned long bytes) { machine->fresh(memory, bytes); }};
  return functions;
}

void run_coroutines(const Launch& launch) {
  run_on<Coroutines>(launch);
}

void run_threads(const Launch& launch) {
  run_on<Threads>(launch);
}

}  // namespace tqkv::test::emulator
