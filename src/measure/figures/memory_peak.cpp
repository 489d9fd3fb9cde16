#include "measure/figures/memory_peak.h"

#include <algorithm>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/memory_info.h"

namespace tqkv::measure {

void MemoryPeak::sample() {
  bytes_ = std::max(bytes_, anonymous_memory());
}

void release_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace tqkv::measure
