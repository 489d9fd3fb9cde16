// The instruction set that a compile unit is for. The headers named *-inl.h have the kernels: each is compiled once for
// every instruction set, in that one's namespace, tqkv::cpu::TQKV_ISA. kernels.cmake names it and gives the compiler's
// flags, from which Highway picks its vectors; an editor that opens a header by itself sees the portable tier.
//
// Nothing but that namespace and C functions may be used in them: an inline function of the standard library would be
// shared with code for lesser processors.
#pragma once
#include <hwy/highway.h>

#ifndef TQKV_ISA
#define TQKV_ISA portable
#endif

// The integer arithmetic of the tier, for which Highway has no operations.
#if HWY_TARGET == HWY_EMU128
#define TQKV_PLAIN
#elif defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#define TQKV_AVX512
#elif defined(__AVX2__)
#define TQKV_AVX2
#elif defined(__ARM_FEATURE_DOTPROD)
#define TQKV_NEON
#else
#define TQKV_PLAIN
#endif

namespace tqkv::cpu::TQKV_ISA {
namespace hn = hwy::HWY_NAMESPACE;
}
