# CUDA, for NVIDIA cards. TQKV_CUDA is
#   AUTO   on where an nvcc is found that knows these cards and takes the host compiler
#   ON     on, and a missing nvcc is an error
#   OFF    nothing is built for cards
# The runtime is linked statically: a program needs the driver of the card and nothing else.
set(TQKV_CUDA AUTO CACHE STRING "code for NVIDIA cards: AUTO, ON or OFF")
if(NOT TQKV_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "TQKV_CUDA is ${TQKV_CUDA}, and AUTO, ON or OFF was expected")
endif()
set(tqkv_cuda OFF)
if(TQKV_CUDA STREQUAL ON OR (TQKV_CUDA STREQUAL AUTO AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT TQKV_SANITIZE))
  find_program(TQKV_NVCC nvcc HINTS ENV CUDA_PATH PATHS /usr/local/cuda /opt/cuda PATH_SUFFIXES bin DOC "compiles for NVIDIA cards")
  # One that is too old, or does not take the host compiler, is as good as none.
  if(TQKV_NVCC)
    file(WRITE ${CMAKE_BINARY_DIR}/cuda/probe.cu "__global__ void nothing() {}\n")
    execute_process(COMMAND ${TQKV_NVCC} -ccbin ${CMAKE_CXX_COMPILER} -std=c++20 -arch=sm_120 -c probe.cu -o probe.o
                    WORKING_DIRECTORY ${CMAKE_BINARY_DIR}/cuda RESULT_VARIABLE tqkv_nvcc_result OUTPUT_QUIET ERROR_VARIABLE tqkv_nvcc_problem)
    if(tqkv_nvcc_result)
      string(REGEX REPLACE "\n.*" "" tqkv_nvcc_problem "${TQKV_NVCC} cannot be used: ${tqkv_nvcc_problem}")
    else()
      set(tqkv_nvcc_problem "")
    endif()
  else()
    set(tqkv_nvcc_problem "nvcc was not found: set TQKV_NVCC, or CUDA_PATH in the environment")
  endif()
  if(NOT tqkv_nvcc_problem)
    set(tqkv_cuda ON)
    set(CMAKE_CUDA_COMPILER ${TQKV_NVCC})
    set(CMAKE_CUDA_HOST_COMPILER ${CMAKE_CXX_COMPILER})
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 120-real)  # Ampere, Hopper, Blackwell for consumers
    enable_language(CUDA)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # CMake 3.25 does not know that nvcc has it
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA_STANDARD 20)
    list(APPEND CMAKE_CUDA_IMPLICIT_INCLUDE_DIRECTORIES ${CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES})  # nor what its host compiler includes
    find_package(CUDAToolkit REQUIRED)
  elseif(TQKV_CUDA STREQUAL ON)
    message(FATAL_ERROR "TQKV_CUDA is ON: ${tqkv_nvcc_problem}")
  else()
    message(STATUS "without code for NVIDIA cards: ${tqkv_nvcc_problem}")
  endif()
endif()

# The kernels: src/runtime/cuda/kernels, behind plain functions.
function(tqkv_cuda_kernels)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/runtime/cuda/kernels/*.cu)
  add_library(tqkv_cuda_kernels STATIC ${sources})
  target_include_directories(tqkv_cuda_kernels PRIVATE ${CMAKE_BINARY_DIR}/rooms/runtime)
  target_compile_options(tqkv_cuda_kernels PRIVATE -Xptxas -warn-spills -Werror all-warnings)
endfunction()
if(tqkv_cuda)
  tqkv_cuda_kernels()
endif()
