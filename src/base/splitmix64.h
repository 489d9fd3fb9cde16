// SplitMix64 (Steele, Lea and Flood 2014), addressed by position: random numbers without a state.
#pragma once
#include <cstdint>

namespace tqkv {

inline constexpr std::uint64_t splitmix64_step = 0x9e3779b97f4a7c15u;

/// Its output function: a bijection of 64 bits.
constexpr std::uint64_t splitmix64_mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/// Number `position`, from 0 on, of the stream of `seed`.
constexpr std::uint64_t splitmix64(std::uint64_t seed, std::uint64_t position) {
  return splitmix64_mix(seed + (position + 1) * splitmix64_step);
}

}  // namespace tqkv
