# CUDA, for NVIDIA cards. TQKV_CUDA is
#   AUTO   on where nvcc is found and the host compiler is one that it takes
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
  if(TQKV_NVCC)
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
    message(FATAL_ERROR "TQKV_CUDA is ON, and nvcc was not found: set TQKV_NVCC, or CUDA_PATH in the environment")
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
