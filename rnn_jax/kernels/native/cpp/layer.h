// A recurrent layer in float32 for CPUs, forwards and backwards, whatever its cell is.
//
// A part is some rows of one direction, from the first step to the last, on one core: rows do not
// depend on each other, so parts never wait for each other. A part goes through time in chunks,
// small enough for its core's cache up to a few hundred units: it projects a chunk's inputs, then
// takes its steps; the backward pass takes a chunk's steps, then adds up their gradients with
// respect to the weights. A cell's file has its steps.
//
// Gates stand in the order of rnn_jax.cells. Arrays are batch-first and contiguous.

#ifndef RNN_JAX_KERNELS_CPP_LAYER_H_
#define RNN_JAX_KERNELS_CPP_LAYER_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "calls.h"
#include "products.h"

namespace rnn_jax {

constexpr int kMostStates = 2;  // in a cell's carry; the first is the hidden state

// One direction of a layer: what both ways read. Absent arrays are null.
struct Layer {
  int64_t batch, time, in, hidden;
  int64_t columns;  // gates * hidden
  bool reverse;
  int64_t variant;  // the cell's
  int states;
  const float* inputs;                // [batch, time, in]
  const float* weights;               // [in, columns]
  const float* recurrent_weights;     // [hidden, columns]
  const float* bias;                  // [columns]
  const float* recurrent_bias;        // [columns], where it is apart from the bias
  const float* keep;                  // [batch, hidden], recurrent dropout's factor
  const float* initial[kMostStates];  // [batch, hidden]
  const float* fresh[kMostStates];    // [batch, hidden]
  const uint8_t* flags;               // [batch, time], kValid and kRestart

  enum Flag : uint8_t { kValid = 1, kRestart = 2 };

  // A call's next direction, the n-th.
  Layer(Call& call, size_t n, int states);

  // In how many steps a part of so many rows takes a chunk.
  int64_t ChunkSteps(int64_t rows) const;
  // Where in [batch, time] the s-th step of a walk stands.
  int64_t at(int64_t row, int64_t s) const { return row * time + (reverse ? time - 1 - s : s); }
  bool valid(int64_t row, int64_t s) const { return !flags || flags[at(row, s)] & kValid; }
  bool restart(int64_t row, int64_t s) const { return flags && flags[at(row, s)] & kRestart; }
  // The n-th state that the s-th step meets, given those that all steps left.
  const float* Met(const float* left, int n, int64_t row, int64_t s) const {
    if (restart(row, s)) return fresh[n] + row * hidden;
    return s == 0 ? initial[n] + row * hidden : left + at(row, s - 1) * hidden;
  }
  // The hidden state that the s-th step multiplies: as met, but for dropout.
  void CopyFed(const float* h, int64_t row, int64_t s, float* to) const {
    const float* met = Met(h, 0, row, s);
    for (int64_t n = 0; n < hidden; ++n) to[n] = keep ? met[n] * keep[row * hidden + n] : met[n];
  }
};

// The gradients with respect to one direction of a layer: what comes in and what goes out.
struct Gradients {
  const float* outputs;  // [batch, time, hidden], given
  float* inputs;         // [batch, time, in], or null
  // [parts, ...]: each part adds to its own.
  float *weights, *recurrent_weights, *bias, *recurrent_bias;
  float* states[kMostStates];  // [batch, hidden], of the last carry at first, then of the initial
  float* fresh[kMostStates];   // [batch, hidden], or null

  Gradients(Call& call, const Layer& layer);
};

// From the product of the gradients of the s-th step's recurrent sums with the weights' transpose,
// [count, hidden], to the gradient of the hidden state it met, beside what d.states[0] holds
// already.
void IntoHidden(const Layer& layer, const Gradients& d, int64_t s, int64_t first, int64_t count,
                const Rows& products);

// Takes all steps of rows: step(s, fed, sums), with the hidden states that the s-th step of each
// row multiplies, and its projected inputs. These are made in `record`, [batch, time, stride], or
// where it is null in memory that the next chunk uses again.
template <typename Step>
void WalkForwards(const Layer& layer, Workspace& workspace, int64_t first, int64_t last,
                  const float* h, float* record, int64_t stride, const Step& step) {
  const int64_t count = last - first, hidden = layer.hidden, columns = layer.columns;
  const int64_t steps = layer.ChunkSteps(count);
  const Packed weights = PackColumns(workspace, {layer.weights, columns, columns}, layer.in);
  float* kept = workspace.Take(layer.keep ? count * hidden : 0);
  float* own = workspace.Take(record ? 0 : count * steps * columns);
  std::vector<const float*> inputs, fed(count);
  std::vector<float*> sums;
  for (int64_t start = 0; start < layer.time; start += steps) {
    const int64_t end = std::min(start + steps, layer.time);
    inputs.clear();
    sums.clear();
    for (int64_t s = start; s < end; ++s) {
      for (int64_t row = first; row < last; ++row) {
        inputs.push_back(layer.inputs + layer.at(row, s) * layer.in);
        sums.push_back(record ? record + layer.at(row, s) * stride : own + sums.size() * columns);
      }
    }
    Product(inputs.data(), inputs.size(), weights, layer.bias, false, sums.data());
    for (int64_t s = start; s < end; ++s) {
      for (int64_t n = 0; n < count; ++n) {
        fed[n] = layer.Met(h, 0, first + n, s);
        if (layer.keep) {
          layer.CopyFed(h, first + n, s, kept + n * hidden);
          fed[n] = kept + n * hidden;
        }
      }
      step(s, fed.data(), sums.data() + (s - start) * count);
    }
  }
}

// Takes all steps of rows backwards: step(s, top, d_sums) writes the gradients of the s-th step's
// projected inputs into d_sums, from row `top` on, and that of the states it met. After a chunk,
// add(size, fed, d_sums) adds its rows' share to the gradients of what multiplies hidden states.
template <typename Step, typename Add>
void WalkBackwards(const Layer& layer, const Gradients& d, Workspace& workspace, int64_t part,
                   int64_t first, int64_t last, const float* h, const Step& step, const Add& add) {
  const int64_t count = last - first, in = layer.in, hidden = layer.hidden;
  const int64_t columns = layer.columns, steps = layer.ChunkSteps(count);
  Packed weights = {};
  if (d.inputs) weights = PackTransposed(workspace, {layer.weights, columns, columns}, in);
  const Rows d_sums(workspace, steps * count, columns), inputs(workspace, steps * count, in),
      fed(workspace, steps * count, hidden);
  float* const d_weights = d.weights + part * in * columns;
  float* const d_bias = d.bias + part * columns;
  std::fill_n(d_weights, in * columns, 0.0f);
  std::fill_n(d.recurrent_weights + part * hidden * columns, hidden * columns, 0.0f);
  std::fill_n(d_bias, columns, 0.0f);
  if (d.recurrent_bias) std::fill_n(d.recurrent_bias + part * columns, columns, 0.0f);
  const std::vector<float*> rows = d_sums.From(0, steps * count);
  std::vector<int64_t> places;  // of a chunk's rows in [batch, time]
  std::vector<float*> d_inputs;
  for (int64_t end = layer.time; end > 0; end -= std::min(steps, end)) {
    places.clear();
    for (int64_t s = end - 1; s >= std::max<int64_t>(end - steps, 0); --s) {
      const int64_t top = places.size();
      for (int64_t row = first; row < last; ++row) {
        const int64_t n = places.size();
        std::copy_n(layer.inputs + layer.at(row, s) * in, in, inputs[n]);
        layer.CopyFed(h, row, s, fed[n]);
        places.push_back(layer.at(row, s));
      }
      step(s, top, d_sums);
    }
    const int64_t size = places.size();
    AddOuter(inputs, in, d_sums, 0, size, {d_weights, columns, columns});
    add(size, fed, d_sums);
    AddRows(d_sums, size, columns, d_bias);
    if (d.inputs) {
      d_inputs.clear();
      for (const int64_t place : places) d_inputs.push_back(d.inputs + place * in);
      Product(rows.data(), size, weights, nullptr, false, d_inputs.data());
    }
  }
}

// Every walk's rows in as many parts as the call says.
template <typename Walk>
void RunAll(Call& call) {
  std::vector<Walk> walks;
  for (size_t n = 0; n < call.reverse.size(); ++n) walks.emplace_back(call, n);
  const int64_t count = walks.size(), parts = call.parts;
  call.InParallel(count * parts, [&](int64_t n) {
    const int64_t part = n / count;
    const Walk& walk = walks[n % count];
    const int64_t batch = walk.layer.batch;
    walk.Run(part, part * batch / parts, (part + 1) * batch / parts);
  });
}

}  // namespace rnn_jax

#endif  // RNN_JAX_KERNELS_CPP_LAYER_H_
