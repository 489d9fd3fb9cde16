// What programs that run kernels on a card share: its memory, errors and times.
#pragma once
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <vector>

#include "codec/codebook.h"
#include "cuda/logits.h"
#include "runtime/cuda/kernels/fragments.h"

namespace tqkv::cuda {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
inline void require(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw Failure(fmt::format("{}: {}", what, cudaGetErrorString(status)));
}

struct Free {
  void operator()(void* memory) const { cudaFree(memory); }
};
using Memory = std::unique_ptr<void, Free>;
inline Memory allocate(std::size_t bytes) {
  void* memory = nullptr;
  require(cudaMalloc(&memory, bytes), "memory of the card");
  return Memory(memory);
}
template <class T>
Memory on_card(const std::vector<T>& values) {
  Memory memory = allocate(values.size() * sizeof(T));
  require(cudaMemcpy(memory.get(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "a copy");
  return memory;
}

class Timer {
 public:
  Timer() {
    require(cudaStreamCreate(&stream_), "a stream");
    require(cudaEventCreate(&begin_), "an event");
    require(cudaEventCreate(&end_), "an event");
  }
  cudaStream_t stream() const { return stream_; }
  /// Median microseconds of one of `nodes` launches; body(node) launches one.
  template <class Body>
  double median_us(int nodes, int trials, const Body& body) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t run = nullptr;
    require(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "a graph");
    for (int node = 0; node < nodes; ++node) body(node);
    require(cudaStreamEndCapture(stream_, &graph), "a graph");
    require(cudaGraphInstantiate(&run, graph, 0), "a graph");
    std::vector<float> times;
    for (int trial = -2; trial < trials; ++trial) {
      require(cudaEventRecord(begin_, stream_), "an event");
      require(cudaGraphLaunch(run, stream_), "a graph");
      require(cudaEventRecord(end_, stream_), "an event");
      require(cudaEventSynchronize(end_), "a kernel");
      float milliseconds = 0;
      require(cudaEventElapsedTime(&milliseconds, begin_, end_), "a time");
      if (trial >= 0) times.push_back(milliseconds);
    }
    cudaGraphExecDestroy(run);
    cudaGraphDestroy(graph);
    std::ranges::sort(times);
    return static_cast<double>(times[times.size() / 2]) * 1e3 / nodes;
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

inline int multiprocessors() {
  int count = 0;
  require(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, 0), "the card");
  return count;
}

/// Of turboquant.
inline LevelBytes levels_of(int bits) {
  const auto levels = codec::centroids(bits).last(codec::centroids(bits).size() / 2);
  return level_bytes(levels.data(), static_cast<int>(levels.size()));
}

/// The level of an index as its byte has it.
inline float level_of(int bits, const LevelBytes& levels, std::uint32_t index) {
  const std::uint32_t m = magnitude_of(bits, index);
  const std::uint32_t byte = (m < 4 ? levels.low >> (8 * m) : levels.high >> (8 * (m - 4))) & 255u;
  return (static_cast<float>(byte) - 127.5f) * levels.step * (is_negative(bits, index) ? -1.0f : 1.0f);
}

namespace logits {

/// GB/s of a kernel that only reads.
inline double read_rate(int trials, Timer& timer) {
  const std::size_t bytes = std::size_t{4} << 30;
  const Memory all = allocate(bytes), out = allocate(4);
  fill(Keys::turboquant4, all.get(), bytes, 3, timer.stream());
  double best = 0;
  for (const int blocks : grids) {
    const double us = timer.median_us(1, trials, [&](int) {
      launch_read(all.get(), bytes, blocks * multiprocessors(), timer.stream(), static_cast<unsigned*>(out.get()));
    });
    best = std::max(best, static_cast<double>(bytes) / us / 1e3);
  }
  return best;
}

}  // namespace logits

}  // namespace tqkv::cuda
