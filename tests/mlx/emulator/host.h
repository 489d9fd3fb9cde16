// What an emulated kernel asks of the machine that runs it. It is compiled into both, and needs no other header.
#pragma once

namespace tqkv::test::emulator {

struct Three {
  unsigned x, y, z;
};

/// Where a lane is, in Metal's words.
struct Position {
  Three thread_position_in_grid, thread_position_in_threadgroup, threadgroup_position_in_grid, threadgroups_per_grid,
      threads_per_threadgroup;
  unsigned thread_index_in_threadgroup, simdgroup_index_in_threadgroup, thread_index_in_simdgroup;
};

constexpr int simdgroup_lanes = 32;
constexpr int most_exchanged_bytes = 8;

struct Host {
  /// Waits until all lanes of the simdgroup are at the same place of the text, and gives what each of them brought.
  void (*exchange)(const char* what, int line, const void* brought, unsigned bytes, void* all);
  /// Waits until all lanes of the threadgroup are at the same place of the text.
  void (*barrier)(const char* what, int line);
  /// The number of the lane that calls, in its simdgroup.
  unsigned (*lane)();
  /// Threadgroup memory of this group: filled with ones, NaN as floats, before its first lane uses it.
  void (*fresh)(void* memory, unsigned long bytes);
};

/// What a compiled kernel has to offer, under the names tqkv_attach and tqkv_lane.
using Attach = void(const Host* host);
using LaneFunction = void(void* const* buffers, const Position* position);

}  // namespace tqkv::test::emulator
