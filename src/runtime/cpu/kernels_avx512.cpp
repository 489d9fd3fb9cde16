// The kernels of the avx512 tier: the generic algorithms compiled for it. Nothing but this namespace and C functions
// may be used here: an inline function of the standard library would be shared with code for lesser processors.
#define TQKV_ISA avx512
#include "runtime/cpu/kernels/isa.h"
