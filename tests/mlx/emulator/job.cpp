// A program that runs one call of the kernel it is linked with: job IN OUT. IN has a line of numbers (whether lanes are
// threads, the seed, grid, group, how many inputs and outputs there are, their bytes), and behind it the inputs.
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <memory>

#include "machine.h"

extern "C" void tqkv_attach(const tqkv::test::emulator::Host* host);
extern "C" void tqkv_lane(void* const* buffers, const tqkv::test::emulator::Position* position);

int main(int count, char** arguments) {
  using namespace tqkv::test::emulator;
  if (count != 3) return 2;
  std::ifstream in(arguments[1], std::ios::binary);
  Launch launch;
  launch.lane = &tqkv_lane;
  int threads = 0, inputs = 0, outputs = 0;
  in >> threads >> launch.seed;
  for (int& extent : launch.grid) in >> extent;
  for (int& extent : launch.group) in >> extent;
  in >> inputs >> outputs;
  std::vector<std::size_t> bytes(static_cast<std::size_t>(inputs + outputs));
  for (std::size_t& size : bytes) in >> size;
  in.get();
  std::vector<std::unique_ptr<unsigned char[]>> memory;  // each of its exact size: a byte beyond it is noticed
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    memory.push_back(std::make_unique<unsigned char[]>(bytes[i]));
    launch.buffers.push_back(memory.back().get());
    if (i < static_cast<std::size_t>(inputs))
      in.read(reinterpret_cast<char*>(memory.back().get()), static_cast<std::streamsize>(bytes[i]));
    else
      std::memset(memory.back().get(), 0xff, bytes[i]);
  }
  if (!in) return 2;
  tqkv_attach(&host());
  try {
    if (threads != 0)
      run_threads(launch);
    else
      run_coroutines(launch);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  std::ofstream out(arguments[2], std::ios::binary);
  for (std::size_t i = static_cast<std::size_t>(inputs); i < bytes.size(); ++i)
    out.write(reinterpret_cast<const char*>(memory[i].get()), static_cast<std::streamsize>(bytes[i]));
  return out.flush() ? 0 : 1;
}
