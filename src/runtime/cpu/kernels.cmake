# The kernel files, each with the flags of its instruction set.
function(tqkv_kernels isa)
  target_sources(tqkv_runtime PRIVATE ${CMAKE_SOURCE_DIR}/src/runtime/cpu/kernels_${isa}.cpp)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/src/runtime/cpu/kernels_${isa}.cpp PROPERTIES COMPILE_OPTIONS "${ARGN}")
endfunction()

target_include_directories(tqkv_runtime SYSTEM PRIVATE ${HWY_INCLUDE_DIR})
tqkv_kernels(portable -O3 -DHWY_COMPILE_ONLY_EMU128)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  tqkv_kernels(avx2 -O3 -DHWY_COMPILE_ONLY_STATIC -mavx2 -mfma -mf16c -mbmi -mbmi2 -mlzcnt -mpclmul -maes)
  tqkv_kernels(avx512 -O3 -DHWY_COMPILE_ONLY_STATIC -march=icelake-server -mno-avx512ifma -mprefer-vector-width=512)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  tqkv_kernels(neon -O3 -DHWY_COMPILE_ONLY_STATIC -march=armv8.2-a+dotprod+fp16)
endif()
