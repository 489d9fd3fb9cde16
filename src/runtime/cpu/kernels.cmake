# The kernels: a library of objects for each instruction set, of the same sources with its flags. A fused multiply-add stands only where the code
# says so: codes and decoded values are those of the scalar reference to the bit.
function(tqkv_kernels isa)
  set(flags ${ARGN})
  if(TQKV_SANITIZE)
    list(TRANSFORM flags REPLACE "^-O3$" "-O1")   # -O3 with sanitizers takes minutes to compile
    if(isa STREQUAL avx512)
      list(APPEND flags -fno-sanitize=undefined)  # as do its kernels with both; the other tiers keep both
    endif()
  endif()
  list(TRANSFORM families PREPEND ${CMAKE_SOURCE_DIR}/src/runtime/cpu/kernels_ OUTPUT_VARIABLE sources)
  list(TRANSFORM sources APPEND .cpp)
  set(target tqkv_kernels_${isa})
  add_library(${target} OBJECT ${sources})
  tqkv_warnings(${target})
  target_compile_options(${target} PRIVATE -ffp-contract=off ${flags})
  # Highway's assertions under the sanitizers need its library: only headers are used.
  target_compile_definitions(${target} PRIVATE TQKV_ISA=${isa} HWY_IS_DEBUG_BUILD=0)
  target_include_directories(${target} SYSTEM PRIVATE ${HWY_INCLUDE_DIR})
  target_link_libraries(${target} PRIVATE tqkv_runtime)
  set_property(GLOBAL APPEND PROPERTY TQKV_ROOMS ${target})
endfunction()

set(families attention matrix vector)
tqkv_kernels(portable -O3 -DHWY_COMPILE_ONLY_EMU128 -DHWY_BROKEN_EMU128=0)   # broken: only its MulHigh, by GCC before 12.3
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  tqkv_kernels(avx2 -O3 -DHWY_COMPILE_ONLY_STATIC -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt -mpclmul -maes)
  tqkv_kernels(avx512 -O3 -DHWY_COMPILE_ONLY_STATIC -march=icelake-server -mno-avx512ifma -mprefer-vector-width=512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  tqkv_kernels(neon -O3 -DHWY_COMPILE_ONLY_STATIC -march=armv8.2-a+dotprod+fp16+crypto)
endif()
