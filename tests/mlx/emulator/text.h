// The final Metal text of a call, as MLX writes it, and what is read from it.
#pragma once
#include <string>
#include <vector>

#include "runtime/mlx/kernels/kernels.h"

namespace tqkv::test::emulator {

struct KernelText {
  std::string function;  ///< name in the text
  std::string text;
};

/// Exports a function that makes the call: MLX generates the text without Metal, too.
KernelText exported(const mlx::KernelCall& call);

struct Parameter {
  std::string type;       ///< without address space: "const float*", "uint3"
  std::string attribute;  ///< "buffer" or what it is a position of
};
/// Of the kernel in the text.
std::vector<Parameter> parameters_of(const KernelText& kernel);

/// The text as C++ for the emulator, with what a machine calls (host.h).
std::string as_cpp(const KernelText& kernel);
/// The text as CUDA behind cuda/metal.cuh, with a function tqkv_launch that runs it: a warp is a simdgroup.
std::string as_cuda(const KernelText& kernel);
/// The text as the lint takes it: threadgroup arrays are static, as the address space wants it there.
std::string as_lint(const KernelText& kernel);

/// Bytes of the threadgroup arrays, whose sizes are products of numbers and of the text's constants.
int threadgroup_bytes(const KernelText& kernel);

}  // namespace tqkv::test::emulator
