// A dense SwiGLU: W_d(silu(W_g x) * W_u x).
#include "runtime/cpu/layers.h"
#include "runtime/cpu/linear.h"
#include "runtime/cpu/vector_rows.h"

namespace tqkv::cpu {

void mlp(const Pass& pass, const MlpWeights& weights) {
  Workspace& work = pass.work;
  multiply(pass, {{weights.gate_proj, work.gate}, {weights.up_proj, work.up}}, activations(pass, work.normed));
  const Activations inner = with_room(pass, work.gate, work.inner_rows16, work.inner_row16);
  for_row_blocks(pass, [&](int first, int count) {
    const Rows<float> gate = work.gate.sub(first, count);
    silu_multiply(pass.vector(), gate, work.up.sub(first, count), gate);
    quantize(pass, inner, first, count);
  });
  multiply(pass, {{weights.down_proj, work.mixed}}, inner);
}

}  // namespace tqkv::cpu
