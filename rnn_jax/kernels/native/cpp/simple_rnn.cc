// The simple RNN: one sum, and the state is a function of it.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "calls.h"
#include "layer.h"
#include "products.h"

namespace rnn_jax {
namespace {

enum Variant : int64_t { kTanh, kRelu, kSigmoid, kIdentity };

inline Vec Activated(int64_t variant, Vec x) {
  switch (variant) {
    case kTanh:
      return Tanh(x);
    case kRelu:
      return x < 0.0f ? Vec{} : x;  // NaN stays NaN
    case kSigmoid:
      return Sigmoid(x);
    default:
      return x;
  }
}

// The derivative given the activation's value.
inline Vec Slope(int64_t variant, Vec h) {
  const Vec one = Vec{} + 1.0f;
  switch (variant) {
    case kTanh:
      return one - h * h;
    case kRelu:
      return h > 0.0f ? one : Vec{};
    case kSigmoid:
      return h * (one - h);
    default:
      return one;
  }
}

struct Forward {
  Layer layer;
  float* h;  // [batch, time, hidden]: at first a step's sum

  Forward(Call& call, size_t n) : layer(call, n, 1), h(call.Result()) {}

  void Run(int64_t, int64_t first, int64_t last) const {
    const int64_t hidden = layer.hidden;
    Workspace& workspace = Workspace::Begin();
    const Packed weights =
        PackColumns(workspace, {layer.recurrent_weights, hidden, hidden}, hidden);
    WalkForwards(layer, workspace, first, last, h, h, hidden,
                 [&](int64_t s, const float* const* fed, float* const* sums) {
                   Product(fed, last - first, weights, nullptr, true, sums);
                   for (int64_t row = first; row < last; ++row) Leave(s, row, sums[row - first]);
                 });
  }

  // The state that the s-th step of a row leaves, in the place of its sum.
  void Leave(int64_t s, int64_t row, float* sums) const {
    const int64_t hidden = layer.hidden;
    if (!layer.valid(row, s)) {
      std::copy_n(layer.Met(h, 0, row, s), hidden, sums);
      return;
    }
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit;
      Store(sums + unit, Activated(layer.variant, Load(sums + unit, lanes)), lanes);
    }
  }
};

struct Backward {
  Layer layer;
  const float* h;  // as Forward left it
  Gradients d;

  Backward(Call& call, size_t n) : layer(call, n, 1), h(call.Argument()), d(call, layer) {}

  void Run(int64_t part, int64_t first, int64_t last) const {
    const int64_t count = last - first, hidden = layer.hidden;
    Workspace& workspace = Workspace::Begin();
    const Packed weights =
        PackTransposed(workspace, {layer.recurrent_weights, hidden, hidden}, hidden);
    const Rows products(workspace, count, hidden);
    const std::vector<float*> to = products.From(0, count);
    float* const d_weights = d.recurrent_weights + part * hidden * hidden;
    WalkBackwards(
        layer, d, workspace, part, first, last, h,
        [&](int64_t s, int64_t top, const Rows& d_sums) {
          for (int64_t n = 0; n < count; ++n) Pointwise(s, first + n, d_sums[top + n]);
          Product(d_sums.From(top, count).data(), count, weights, nullptr, false, to.data());
          IntoHidden(layer, d, s, first, count, products);
        },
        [&](int64_t size, const Rows& fed, const Rows& d_sums) {
          AddOuter(fed, hidden, d_sums, 0, size, {d_weights, hidden, hidden});
        });
  }

  // The s-th step of a row: from the gradient of the state it left to that of its sum; to that of
  // the state it met only what passes by.
  void Pointwise(int64_t s, int64_t row, float* d_sums) const {
    const int64_t hidden = layer.hidden, at = layer.at(row, s) * hidden;
    const bool valid = layer.valid(row, s);
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit, state = row * hidden + unit;
      const Vec d_left = Load(d.states[0] + state, lanes) + Load(d.outputs + at + unit, lanes);
      const Vec d_sum = valid ? d_left * Slope(layer.variant, Load(h + at + unit, lanes)) : Vec{};
      Store(d_sums + unit, d_sum, lanes);
      Store(d.states[0] + state, valid ? Vec{} : d_left, lanes);
    }
  }
};

}  // namespace

void SimpleRnnForward(Call& call) { RunAll<Forward>(call); }
void SimpleRnnBackward(Call& call) { RunAll<Backward>(call); }

}  // namespace rnn_jax
