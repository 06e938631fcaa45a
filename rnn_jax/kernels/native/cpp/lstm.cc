// The LSTM: gates i, f, g, o, and the states h and c.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "calls.h"
#include "layer.h"
#include "products.h"

namespace rnn_jax {
namespace {

constexpr int kGates = 4, kStates = 2;

struct Forward {
  Layer layer;
  float* h;          // [batch, time, hidden]
  float* c_last;     // [batch, hidden]
  float *c, *gates;  // [batch, time, hidden] and [batch, time, gates * hidden]; or null

  Forward(Call& call, size_t n) : layer(call, n, kStates) {
    h = call.Result();
    c_last = call.Result();
    c = call.Result();
    gates = call.Result();
  }

  void Run(int64_t, int64_t first, int64_t last) const {
    const int64_t count = last - first, hidden = layer.hidden;
    Workspace& workspace = Workspace::Begin();
    const float* weights =
        PackGates<kGates>(workspace, layer.recurrent_weights, hidden, hidden, layer.columns);
    std::copy_n(layer.initial[1] + first * hidden, count * hidden, c_last + first * hidden);
    WalkForwards(layer, workspace, first, last, h, gates, layer.columns,
                 [&](int64_t s, const float* const* fed, float* const* sums) {
                   Step(s, first, count, weights, fed, sums);
                 });
  }

  // The s-th step of all rows; gates are written over the sums if they are asked for.
  void Step(int64_t s, int64_t first, int64_t count, const float* weights, const float* const* fed,
            float* const* sums) const {
    const int64_t hidden = layer.hidden;
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit;
      InGroups<kGates>(count, [&](int64_t n, auto n_rows) {
        constexpr int M = decltype(n_rows)::value;
        Block<M, kGates> block;
        for (int m = 0; m < M; ++m) {
          for (int gate = 0; gate < kGates; ++gate) {
            block.sums[m][gate] = Load(sums[n + m] + gate * hidden + unit, lanes);
          }
        }
        block = Multiplied(block, fed + n, weights + unit * hidden * kGates, hidden);
        for (int m = 0; m < M; ++m) {
          const int64_t row = first + n + m, at = layer.at(row, s) * hidden + unit;
          const Vec i = Sigmoid(block.sums[m][0]), f = Sigmoid(block.sums[m][1]),
                    g = Tanh(block.sums[m][2]), o = Sigmoid(block.sums[m][3]);
          float* cell = c_last + row * hidden + unit;
          const float* met = layer.restart(row, s) ? layer.fresh[1] + row * hidden + unit : cell;
          Vec c_new = f * Load(met, lanes) + i * g, h_new = o * Tanh(c_new);
          if (!layer.valid(row, s)) {
            c_new = Load(met, lanes);
            h_new = Load(layer.Met(h, 0, row, s) + unit, lanes);
          }
          Store(h + at, h_new, lanes);
          Store(cell, c_new, lanes);
          if (gates) {
            float* to = sums[n + m] + unit;
            Store(to, i, lanes);
            Store(to + hidden, f, lanes);
            Store(to + 2 * hidden, g, lanes);
            Store(to + 3 * hidden, o, lanes);
            Store(c + at, c_new, lanes);
          }
        }
      });
    }
  }
};

struct Backward {
  Layer layer;
  const float *h, *c, *gates;  // as Forward left them
  Gradients d;

  Backward(Call& call, size_t n)
      : layer(call, n, kStates),
        h(call.Argument()),
        c(call.Argument()),
        gates(call.Argument()),
        d(call, layer) {}

  void Run(int64_t part, int64_t first, int64_t last) const {
    const int64_t count = last - first, hidden = layer.hidden, columns = layer.columns;
    Workspace& workspace = Workspace::Begin();
    const Packed weights =
        PackTransposed(workspace, {layer.recurrent_weights, columns, columns}, hidden);
    const Rows products(workspace, count, hidden);
    const std::vector<float*> to = products.From(0, count);
    float* const d_weights = d.recurrent_weights + part * hidden * columns;
    WalkBackwards(
        layer, d, workspace, part, first, last, h,
        [&](int64_t s, int64_t top, const Rows& d_sums) {
          for (int64_t n = 0; n < count; ++n) Pointwise(s, first + n, d_sums[top + n]);
          Product(d_sums.From(top, count).data(), count, weights, nullptr, false, to.data());
          IntoHidden(layer, d, s, first, count, products);
        },
        [&](int64_t size, const Rows& fed, const Rows& d_sums) {
          AddOuter(fed, hidden, d_sums, 0, size, {d_weights, columns, columns});
        });
  }

  // The s-th step of a row: from the gradients of the state it left to those of its sums, in
  // d_sums, and of the cell it met. Of the hidden state it met there is only what passes by.
  void Pointwise(int64_t s, int64_t row, float* d_sums) const {
    const int64_t hidden = layer.hidden, at = layer.at(row, s);
    const float* c_met = layer.Met(c, 1, row, s);
    const float* gate = gates + at * layer.columns;
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit, state = row * hidden + unit;
      const Vec d_hidden =
          Load(d.states[0] + state, lanes) + Load(d.outputs + at * hidden + unit, lanes);
      Vec d_cell = Load(d.states[1] + state, lanes);
      float* to = d_sums + unit;
      if (layer.valid(row, s)) {
        const Vec i = Load(gate + unit, lanes), f = Load(gate + hidden + unit, lanes),
                  g = Load(gate + 2 * hidden + unit, lanes),
                  o = Load(gate + 3 * hidden + unit, lanes),
                  tanh_c = Tanh(Load(c + at * hidden + unit, lanes));
        d_cell += d_hidden * o * (1.0f - tanh_c * tanh_c);
        Store(to, d_cell * g * i * (1.0f - i), lanes);
        Store(to + hidden, d_cell * Load(c_met + unit, lanes) * f * (1.0f - f), lanes);
        Store(to + 2 * hidden, d_cell * i * (1.0f - g * g), lanes);
        Store(to + 3 * hidden, d_hidden * tanh_c * o * (1.0f - o), lanes);
        Store(d.states[0] + state, Vec{}, lanes);
        d_cell *= f;
      } else {
        Store(d.states[0] + state, d_hidden, lanes);
        for (int n = 0; n < kGates; ++n) Store(to + n * hidden, Vec{}, lanes);
      }
      if (layer.restart(row, s)) {
        AddTo(d.fresh[1] + state, d_cell, lanes);
        d_cell = Vec{};
      }
      Store(d.states[1] + state, d_cell, lanes);
    }
  }
};

}  // namespace

void LstmForward(Call& call) { RunAll<Forward>(call); }
void LstmBackward(Call& call) { RunAll<Backward>(call); }

}  // namespace rnn_jax
