# The kernel files, each with the flags of its instruction set. A fused multiply-add stands only where the code says so: codes and
# decoded values are those of the scalar reference to the bit.
function(tqkv_kernels isa)
  set(flags ${ARGN} -DHWY_IS_DEBUG_BUILD=0)  # its assertions under the sanitizers need Highway's library: only headers are used
  if(TQKV_SANITIZE)
    list(TRANSFORM flags REPLACE "^-O3$" "-O1")   # -O3 with sanitizers takes minutes to compile
    if(isa STREQUAL avx512)
      list(APPEND flags -fno-sanitize=undefined)  # as does this file with both; the other tiers keep both
    endif()
  endif()
  target_sources(tqkv_runtime PRIVATE ${CMAKE_SOURCE_DIR}/src/runtime/cpu/kernels_${isa}.cpp)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/src/runtime/cpu/kernels_${isa}.cpp PROPERTIES COMPILE_OPTIONS "-ffp-contract=off;${flags}"
                              SKIP_PRECOMPILE_HEADERS ON)
endfunction()

target_include_directories(tqkv_runtime SYSTEM PRIVATE ${HWY_INCLUDE_DIR})
tqkv_kernels(portable -O3 -DHWY_COMPILE_ONLY_EMU128 -DHWY_BROKEN_EMU128=0)   # broken: only its MulHigh, by GCC before 12.3
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  tqkv_kernels(avx2 -O3 -DHWY_COMPILE_ONLY_STATIC -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt -mpclmul -maes)
  tqkv_kernels(avx512 -O3 -DHWY_COMPILE_ONLY_STATIC -march=icelake-server -mno-avx512ifma -mprefer-vector-width=512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  tqkv_kernels(neon -O3 -DHWY_COMPILE_ONLY_STATIC -march=armv8.2-a+dotprod+fp16+crypto)
endif()
