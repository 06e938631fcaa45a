// The GRU: gates r, z, n, with the reset after or before the new state's recurrent product. With
// the reset after it, that product, h_n, is kept apart from the projected inputs.

#include <cstdint>
#include <vector>

#include "calls.h"
#include "layer.h"
#include "products.h"

namespace rnn_jax {
namespace {

enum Variant : int64_t { kResetBefore, kResetAfter };

struct Forward {
  Layer layer;
  float* h;       // [batch, time, hidden]
  float* record;  // r, z, n and with the reset after also h_n, [batch, time, ...]; or null

  Forward(Call& call, size_t n) : layer(call, n, 1) {
    h = call.Result();
    record = call.Result();
  }

  void Run(int64_t, int64_t first, int64_t last) const {
    if (layer.variant == kResetAfter) {
      RunAfter(first, last);
    } else {
      RunBefore(first, last);
    }
  }

  void RunAfter(int64_t first, int64_t last) const {
    const int64_t count = last - first, hidden = layer.hidden, columns = layer.columns;
    Workspace& workspace = Workspace::Begin();
    const Packed weights =
        PackColumns(workspace, {layer.recurrent_weights, columns, columns}, hidden);
    const Rows products(workspace, count, columns);
    const std::vector<float*> to = products.From(0, count);
    WalkForwards(layer, workspace, first, last, h, record, 4 * hidden,
                 [&](int64_t s, const float* const* fed, float* const* sums) {
                   Product(fed, count, weights, layer.recurrent_bias, false, to.data());
                   for (int64_t n = 0; n < count; ++n) StepAfter(s, first + n, to[n], sums[n]);
                 });
  }

  void StepAfter(int64_t s, int64_t row, const float* products, float* sums) const {
    const int64_t hidden = layer.hidden;
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit;
      const float* const from = products + unit;
      float* const to = sums + unit;
      const Vec r = Sigmoid(Load(to, lanes) + Load(from, lanes)),
                z = Sigmoid(Load(to + hidden, lanes) + Load(from + hidden, lanes)),
                h_n = Load(from + 2 * hidden, lanes),
                n = Tanh(Load(to + 2 * hidden, lanes) + r * h_n);
      Leave(row, s, unit, z, n);
      if (record) {
        Store(to, r, lanes);
        Store(to + hidden, z, lanes);
        Store(to + 2 * hidden, n, lanes);
        Store(to + 3 * hidden, h_n, lanes);
      }
    }
  }

  void RunBefore(int64_t first, int64_t last) const {
    const int64_t count = last - first, hidden = layer.hidden, columns = layer.columns;
    Workspace& workspace = Workspace::Begin();
    const float* all = layer.recurrent_weights;
    const Packed weights = PackColumns(workspace, {all, 2 * hidden, columns}, hidden),
                 weights_n = PackColumns(workspace, {all + 2 * hidden, hidden, columns}, hidden);
    const Rows reset(workspace, count, hidden);
    const std::vector<float*> of_reset = reset.From(0, count);
    std::vector<float*> sums_n(count);
    WalkForwards(layer, workspace, first, last, h, record, columns,
                 [&](int64_t s, const float* const* fed, float* const* sums) {
                   Product(fed, count, weights, nullptr, true, sums);
                   for (int64_t n = 0; n < count; ++n) {
                     ResetAndUpdate(fed[n], sums[n], of_reset[n]);
                     sums_n[n] = sums[n] + 2 * hidden;
                   }
                   Product(of_reset.data(), count, weights_n, nullptr, true, sums_n.data());
                   for (int64_t n = 0; n < count; ++n) NewState(s, first + n, sums[n]);
                 });
  }

  // r and z in the place of their sums, and what the new state's product takes, r * h.
  void ResetAndUpdate(const float* fed, float* sums, float* reset) const {
    const int64_t hidden = layer.hidden;
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit;
      float* const to = sums + unit;
      const Vec r = Sigmoid(Load(to, lanes)), z = Sigmoid(Load(to + hidden, lanes));
      Store(to, r, lanes);
      Store(to + hidden, z, lanes);
      Store(reset + unit, r * Load(fed + unit, lanes), lanes);
    }
  }

  void NewState(int64_t s, int64_t row, float* sums) const {
    const int64_t hidden = layer.hidden;
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit;
      float* const to = sums + unit;
      const Vec n = Tanh(Load(to + 2 * hidden, lanes));
      Leave(row, s, unit, Load(to + hidden, lanes), n);
      Store(to + 2 * hidden, n, lanes);
    }
  }

  // The state that the s-th step of a row leaves, in the units of a vector.
  void Leave(int64_t row, int64_t s, int64_t unit, Vec z, Vec n) const {
    const int64_t lanes = layer.hidden - unit;
    const Vec met = Load(layer.Met(h, 0, row, s) + unit, lanes);
    Store(h + layer.at(row, s) * layer.hidden + unit, layer.valid(row, s) ? n + z * (met - n) : met,
          lanes);
  }
};

struct Backward {
  Layer layer;
  const float *h, *record;  // as Forward left them
  Gradients d;

  Backward(Call& call, size_t n)
      : layer(call, n, 1), h(call.Argument()), record(call.Argument()), d(call, layer) {}

  void Run(int64_t part, int64_t first, int64_t last) const {
    float* const d_weights = d.recurrent_weights + part * layer.hidden * layer.columns;
    if (layer.variant == kResetAfter) {
      RunAfter(part, first, last, d_weights);
    } else {
      RunBefore(part, first, last, d_weights);
    }
  }

  void RunAfter(int64_t part, int64_t first, int64_t last, float* d_weights) const {
    const int64_t count = last - first, hidden = layer.hidden, columns = layer.columns;
    Workspace& workspace = Workspace::Begin();
    const Packed weights =
        PackTransposed(workspace, {layer.recurrent_weights, columns, columns}, hidden);
    const Rows products(workspace, count, hidden);
    const std::vector<float*> to = products.From(0, count);
    // Of the recurrent sums of r, z and n: the last differs from that of the projected inputs.
    const Rows d_recurrent(workspace, layer.ChunkSteps(count) * count, columns);
    WalkBackwards(
        layer, d, workspace, part, first, last, h,
        [&](int64_t s, int64_t top, const Rows& d_sums) {
          for (int64_t n = 0; n < count; ++n) {
            PointwiseAfter(s, first + n, d_sums[top + n], d_recurrent[top + n]);
          }
          Product(d_recurrent.From(top, count).data(), count, weights, nullptr, false, to.data());
          IntoHidden(layer, d, s, first, count, products);
        },
        [&](int64_t size, const Rows& fed, const Rows&) {
          AddOuter(fed, hidden, d_recurrent, 0, size, {d_weights, columns, columns});
          if (d.recurrent_bias) {
            AddRows(d_recurrent, size, columns, d.recurrent_bias + part * columns);
          }
        });
  }

  // The s-th step of a row: from the gradient of the state it left to those of its sums, and of the
  // state it met what does not come through a product.
  void PointwiseAfter(int64_t s, int64_t row, float* d_sums, float* d_recurrent) const {
    const int64_t hidden = layer.hidden, at = layer.at(row, s);
    const float *met = layer.Met(h, 0, row, s), *saved = record + at * 4 * hidden;
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit;
      float* const state = d.states[0] + row * hidden + unit;
      Vec d_h = Load(state, lanes) + Load(d.outputs + at * hidden + unit, lanes);
      Vec d_r = {}, d_z = {}, d_n = {}, d_h_n = {};
      if (layer.valid(row, s)) {
        const Vec r = Load(saved + unit, lanes), z = Load(saved + hidden + unit, lanes),
                  n = Load(saved + 2 * hidden + unit, lanes),
                  h_n = Load(saved + 3 * hidden + unit, lanes);
        d_n = d_h * (1.0f - z) * (1.0f - n * n);
        d_z = d_h * (Load(met + unit, lanes) - n) * z * (1.0f - z);
        d_r = d_n * h_n * r * (1.0f - r);
        d_h_n = d_n * r;
        d_h *= z;
      }
      Store(state, d_h, lanes);
      Store(d_sums + unit, d_r, lanes);
      Store(d_sums + hidden + unit, d_z, lanes);
      Store(d_sums + 2 * hidden + unit, d_n, lanes);
      Store(d_recurrent + unit, d_r, lanes);
      Store(d_recurrent + hidden + unit, d_z, lanes);
      Store(d_recurrent + 2 * hidden + unit, d_h_n, lanes);
    }
  }

  void RunBefore(int64_t part, int64_t first, int64_t last, float* d_weights) const {
    const int64_t count = last - first, hidden = layer.hidden, columns = layer.columns;
    Workspace& workspace = Workspace::Begin();
    const float* all = layer.recurrent_weights;
    const Packed weights = PackTransposed(workspace, {all, 2 * hidden, columns}, hidden),
                 weights_n = PackTransposed(workspace, {all + 2 * hidden, hidden, columns}, hidden);
    const Rows products(workspace, count, hidden);
    const std::vector<float*> to = products.From(0, count);
    const Rows reset(workspace, layer.ChunkSteps(count) * count, hidden);  // r * h as multiplied
    WalkBackwards(
        layer, d, workspace, part, first, last, h,
        [&](int64_t s, int64_t top, const Rows& d_sums) {
          for (int64_t n = 0; n < count; ++n) {
            PointwiseBefore(s, first + n, d_sums[top + n], reset[top + n]);
          }
          const std::vector<float*> d_n = d_sums.From(top, count, 2 * hidden),
                                    d_gates = d_sums.From(top, count);
          Product(d_n.data(), count, weights_n, nullptr, false, to.data());
          for (int64_t n = 0; n < count; ++n) IntoReset(s, first + n, to[n], d_gates[n]);
          Product(d_gates.data(), count, weights, nullptr, false, to.data());
          IntoHidden(layer, d, s, first, count, products);
        },
        [&](int64_t size, const Rows& fed, const Rows& d_sums) {
          AddOuter(fed, hidden, d_sums, 0, size, {d_weights, 2 * hidden, columns});
          AddOuter(reset, hidden, d_sums, 2 * hidden, size,
                   {d_weights + 2 * hidden, hidden, columns});
        });
  }

  // As PointwiseAfter, but for what comes through the reset gate; and what the new state's product
  // took.
  void PointwiseBefore(int64_t s, int64_t row, float* d_sums, float* reset) const {
    const int64_t hidden = layer.hidden, at = layer.at(row, s);
    const float *met = layer.Met(h, 0, row, s), *saved = record + at * layer.columns;
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit;
      float* const state = d.states[0] + row * hidden + unit;
      Vec d_h = Load(state, lanes) + Load(d.outputs + at * hidden + unit, lanes);
      Vec d_z = {}, d_n = {}, taken = {};
      if (layer.valid(row, s)) {
        const Vec r = Load(saved + unit, lanes), z = Load(saved + hidden + unit, lanes),
                  n = Load(saved + 2 * hidden + unit, lanes), h_met = Load(met + unit, lanes);
        d_n = d_h * (1.0f - z) * (1.0f - n * n);
        d_z = d_h * (h_met - n) * z * (1.0f - z);
        d_h *= z;
        taken = r * h_met;
        if (layer.keep) taken *= Load(layer.keep + row * hidden + unit, lanes);
      }
      Store(state, d_h, lanes);
      Store(reset + unit, taken, lanes);
      Store(d_sums + hidden + unit, d_z, lanes);
      Store(d_sums + 2 * hidden + unit, d_n, lanes);
    }
  }

  // From the product of the gradient of the new state's sum to the gradients of the reset gate's
  // sum and of the state that it met.
  void IntoReset(int64_t s, int64_t row, const float* product, float* d_sums) const {
    const int64_t hidden = layer.hidden;
    const float *met = layer.Met(h, 0, row, s), *saved = record + layer.at(row, s) * layer.columns;
    const bool valid = layer.valid(row, s);
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit, state = row * hidden + unit;
      Vec d_r = {};
      if (valid) {
        const Vec r = Load(saved + unit, lanes);
        Vec d_reset = Load(product + unit, lanes);
        if (layer.keep) d_reset *= Load(layer.keep + state, lanes);
        AddTo(d.states[0] + state, d_reset * r, lanes);
        d_r = d_reset * Load(met + unit, lanes) * r * (1.0f - r);
      }
      Store(d_sums + unit, d_r, lanes);
    }
  }
};

}  // namespace

void GruForward(Call& call) { RunAll<Forward>(call); }
void GruBackward(Call& call) { RunAll<Backward>(call); }

}  // namespace rnn_jax
