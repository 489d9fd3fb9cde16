#include "runtime/cpu/kernels/dot_portable.h"
