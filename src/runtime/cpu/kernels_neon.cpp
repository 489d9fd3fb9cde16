// The kernels of the neon tier: the generic algorithms compiled for it. Nothing but this namespace and C functions may
// be used here: an inline function of the standard library would be shared with code for lesser processors.
#define TQKV_ISA neon
#include "runtime/cpu/kernels/isa.h"
