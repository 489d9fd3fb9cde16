// Linear maps over the threads: activations in the form that the engine's precision multiplies, and several matrices
// that share them in one parallel region.
#pragma once
#include <initializer_list>
#include <vector>

#include "runtime/cpu/pass.h"

namespace tqkv::cpu {

/// The rows of a batch, in fast precision as 16-bit integers too: those of the batch's single rows in `row16`, others
/// in `rows16`, where they lie in the batch.
struct Activations {
  Rows<const float> x;       // [rows, channels]
  Row16* row16 = nullptr;    // [singles]
  Rows16* rows16 = nullptr;  // [rows]; null: floats alone
};

/// One product y[t, :] = W x[t, :].
struct Product {
  const Matrix& w;
  Rows<float> y;  // [rows, w.out]
  Tolerance tolerance = Tolerance::none;
  bool exact = false;  // in f32 whatever the precision
};

/// Whether rows of so many channels are multiplied as integers.
bool in_integers(const Pass& pass, int channels);
/// x with its integers.
Activations activations(const Pass& pass, Rows<const float> x);
/// x with room for its integers in `rows16` and `row16`, which quantize() fills; floats alone where there are none.
Activations with_room(const Pass& pass, Rows<const float> x, Rows16& rows16, std::vector<Row16>& row16);
/// Integers of rows first..first+count-1, where there are integers.
void quantize(const Pass& pass, const Activations& x, int first, int count);
void multiply(const Pass& pass, std::initializer_list<Product> products, const Activations& x);

/// Output rows of one task. Few tokens: about 128 KiB of weights that lie side by side, because memory is read fastest
/// in long runs.
int rows_per_task(const Matrix& w);

}  // namespace tqkv::cpu
