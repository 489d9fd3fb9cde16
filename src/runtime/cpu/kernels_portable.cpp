// The kernels of the portable tier: the generic algorithms compiled for it. Nothing but this namespace and C functions
// may be used here: an inline function of the standard library would be shared with code for lesser processors.
#define TQKV_ISA portable
#include "runtime/cpu/kernels/isa.h"
