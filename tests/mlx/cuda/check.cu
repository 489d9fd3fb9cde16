// Runs the jobs of a file on an NVIDIA card and compares with what the file expects: check JOBS. kernels.inc has the
// kernels, number N as namespace kN, and TQKV_KERNELS(X), a list of their numbers. tests/mlx/cuda_test.cpp writes both.
//
//   nvcc -std=c++17 -O2 -arch=native -I tests/mlx/cuda -I FOLDER tests/mlx/cuda/check.cu -o check
//   ./check FOLDER/jobs;  compute-sanitizer --tool memcheck (racecheck, synccheck, initcheck) ./check FOLDER/jobs
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "metal.cuh"

#include "kernels.inc"

namespace {

using Launch = void(const Buffers&, dim3, dim3, unsigned);
#define TQKV_LAUNCH(number) k##number::tqkv_launch,
Launch* const launches[] = {TQKV_KERNELS(TQKV_LAUNCH)};

void require(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "CUDA: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

template <typename T>
std::vector<T> as(const std::vector<unsigned char>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// Largest difference over the largest expected number; of words the share that differs, of halves the largest step.
double difference(const std::string& type, const std::vector<unsigned char>& expected,
                  const std::vector<unsigned char>& found) {
  double apart = 0, largest = 0;
  if (type == "float32") {
    const auto right = as<float>(expected), made = as<float>(found);
    for (std::size_t i = 0; i < right.size(); ++i) {
      largest = std::fmax(largest, std::fabs(right[i]));
      const double one = std::fabs(static_cast<double>(right[i]) - made[i]);
      apart = std::isfinite(one) ? std::fmax(apart, one) : INFINITY;
    }
    return apart / largest;
  }
  if (type == "uint32") {
    const auto right = as<unsigned>(expected), made = as<unsigned>(found);
    for (std::size_t i = 0; i < right.size(); ++i) apart += right[i] != made[i];
    return apart / static_cast<double>(right.size());
  }
  const auto right = as<unsigned short>(expected), made = as<unsigned short>(found);
  for (std::size_t i = 0; i < right.size(); ++i) apart = std::fmax(apart, std::abs(right[i] - made[i]));
  return apart;
}

double limit_of(const std::string& type) {
  return type == "float32" ? 1e-5 : type == "uint32" ? 1e-3 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  std::ifstream in(arguments[1], std::ios::binary);
  int failed = 0, jobs = 0;
  std::string name;
  for (int kernel = 0; in >> name >> kernel; ++jobs) {
    int grid[3], group[3], inputs = 0, outputs = 0;
    for (int& extent : grid) in >> extent;
    for (int& extent : group) in >> extent;
    in >> inputs >> outputs;
    std::vector<std::string> types(inputs + outputs);
    std::vector<std::vector<unsigned char>> arrays(inputs + outputs);
    for (int i = 0; i < inputs + outputs; ++i) {
      std::size_t bytes = 0;
      in >> types[i] >> bytes;
      arrays[i].resize(bytes);
    }
    in.get();
    Buffers buffers{};
    for (int i = 0; i < inputs + outputs; ++i) {
      in.read(reinterpret_cast<char*>(arrays[i].data()), static_cast<std::streamsize>(arrays[i].size()));
      require(cudaMalloc(&buffers.of[i], arrays[i].size()));
      if (i < inputs) require(cudaMemcpy(buffers.of[i], arrays[i].data(), arrays[i].size(), cudaMemcpyHostToDevice));
    }
    const auto groups = [&](int i) { return static_cast<unsigned>((grid[i] + group[i] - 1) / group[i]); };
    launches[kernel](buffers, dim3(groups(0), groups(1), groups(2)), dim3(group[0], group[1], group[2]),
                     static_cast<unsigned>(grid[0]));
    require(cudaGetLastError());
    require(cudaDeviceSynchronize());
    bool wrong = false;
    std::printf("%s:", name.c_str());
    for (int i = inputs; i < inputs + outputs; ++i) {
      std::vector<unsigned char> found(arrays[i].size());
      require(cudaMemcpy(found.data(), buffers.of[i], found.size(), cudaMemcpyDeviceToHost));
      const double apart = difference(types[i], arrays[i], found);
      std::printf(" %s %.2g", types[i].c_str(), apart);
      wrong = wrong || !(apart <= limit_of(types[i]));
    }
    for (int i = 0; i < inputs + outputs; ++i) require(cudaFree(buffers.of[i]));
    std::printf(wrong ? " WRONG\n" : "\n");
    failed += wrong;
  }
  std::printf("%d jobs, %d wrong\n", jobs, failed);
  return failed == 0 && jobs > 0 ? 0 : 1;
}
