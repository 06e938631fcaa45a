// An LSTM layer in float32 for CPUs, forwards and backwards, as two calls that XLA makes.
//
// A part is some rows of one direction, from the first step to the last, on one core: rows do not
// depend on each other, so parts never wait for each other. A part goes through time in chunks,
// small enough for its core's cache up to a few hundred units: it projects a chunk's inputs, then
// takes its steps; the backward pass takes a chunk's steps, then adds up their gradients with
// respect to the weights.
//
// The gates are i, f, g, o, as in rnn_jax.cells. Arrays are batch-first and contiguous.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "calls.h"
#include "products.h"
#include "xla/ffi/api/ffi.h"

namespace rnn_jax {
namespace {

constexpr int kGates = 4;
// Steps times rows of a chunk: more where weights outgrow a core's cache, so that their gradient is
// added to less often.
constexpr int64_t kChunkRows = 128, kLargeChunkRows = 256, kLargeWeights = 1 << 18;

// [hidden, gates * hidden] -> for each vector of units, [hidden, gates, vector].
const float* PackGates(Workspace& workspace, const float* weights, int64_t hidden) {
  const int64_t vectors = (hidden + kLanes - 1) / kLanes;
  float* const packed = workspace.Take(vectors * hidden * kGates * kLanes);
  float* to = packed;
  for (int64_t unit = 0; unit < hidden; unit += kLanes) {
    for (int64_t k = 0; k < hidden; ++k) {
      for (int64_t gate = 0; gate < kGates; ++gate, to += kLanes) {
        Store(to, Load(weights + (k * kGates + gate) * hidden + unit, hidden - unit), kLanes);
      }
    }
  }
  return packed;
}

// One direction of a layer: what both ways read. Absent arrays are null.
struct Layer {
  int64_t batch, time, in, hidden;
  bool reverse;
  const float* inputs;             // [batch, time, in]
  const float* weights;            // [in, gates * hidden]
  const float* recurrent_weights;  // [hidden, gates * hidden]
  const float* bias;               // [gates * hidden]
  const float* keep;               // [batch, hidden], recurrent dropout's factor
  const float *h_initial, *c_initial, *h_fresh, *c_fresh;  // [batch, hidden]
  const uint8_t* flags;                                    // [batch, time], kValid and kRestart

  enum Flag : uint8_t { kValid = 1, kRestart = 2 };

  int64_t columns() const { return kGates * hidden; }
  // In how many steps a part of so many rows takes a chunk.
  int64_t ChunkSteps(int64_t rows) const {
    const bool large = std::max(in, hidden) * columns() > kLargeWeights;
    const int64_t size = large ? kLargeChunkRows : kChunkRows;
    return std::clamp<int64_t>(size / std::max<int64_t>(rows, 1), 1, time);
  }
  // Where in [batch, time] the s-th step of a walk stands.
  int64_t at(int64_t row, int64_t s) const { return row * time + (reverse ? time - 1 - s : s); }
  bool valid(int64_t row, int64_t s) const { return !flags || flags[at(row, s)] & kValid; }
  bool restart(int64_t row, int64_t s) const { return flags && flags[at(row, s)] & kRestart; }
  // The state that the s-th step meets, given those that all steps left.
  const float* Met(const float* states, const float* initial, const float* fresh, int64_t row,
                   int64_t s) const {
    if (restart(row, s)) return fresh + row * hidden;
    return s == 0 ? initial + row * hidden : states + at(row, s - 1) * hidden;
  }
  // The hidden state that the s-th step multiplies: as met, but for dropout.
  void CopyFed(const float* h, int64_t row, int64_t s, float* to) const {
    const float* met = Met(h, h_initial, h_fresh, row, s);
    for (int64_t n = 0; n < hidden; ++n) to[n] = keep ? met[n] * keep[row * hidden + n] : met[n];
  }
};

Layer NextLayer(Arguments& arguments, bool reverse) {
  const auto inputs = arguments.Dimensions(0), recurrent_weights = arguments.Dimensions(2);
  Layer layer{inputs[0], inputs[1], inputs[2], recurrent_weights[0], reverse};
  layer.inputs = arguments.Next();
  layer.weights = arguments.Next();
  layer.recurrent_weights = arguments.Next();
  layer.bias = arguments.Next();
  layer.keep = arguments.Next();
  layer.h_initial = arguments.Next();
  layer.c_initial = arguments.Next();
  layer.h_fresh = arguments.Next();
  layer.c_fresh = arguments.Next();
  layer.flags = arguments.Next<uint8_t>();
  return layer;
}

struct Forward {
  Layer layer;
  float* h;          // [batch, time, hidden]
  float* c_last;     // [batch, hidden]
  float *gates, *c;  // [batch, time, gates * hidden] and [batch, time, hidden]; or null

  static Forward Next(Arguments& arguments, Results& results, bool reverse) {
    Forward walk{NextLayer(arguments, reverse)};
    walk.h = results.Next();
    walk.c_last = results.Next();
    walk.c = results.Next();
    walk.gates = results.Next();
    return walk;
  }

  void Run(int64_t, int64_t first, int64_t last) const {
    const int64_t count = last - first, hidden = layer.hidden, columns = layer.columns();
    const int64_t steps = layer.ChunkSteps(count);
    Workspace& workspace = Workspace::Begin();
    const float* weights = PackColumns(workspace, layer.weights, layer.in, columns);
    const float* recurrent_weights = PackGates(workspace, layer.recurrent_weights, hidden);
    float* kept = workspace.Take(layer.keep ? count * hidden : 0);
    float* own = workspace.Take(gates ? 0 : count * steps * columns);
    std::copy_n(layer.c_initial + first * hidden, count * hidden, c_last + first * hidden);
    std::vector<const float*> inputs, fed(count);
    std::vector<float*> sums;
    for (int64_t start = 0; start < layer.time; start += steps) {
      const int64_t end = std::min(start + steps, layer.time);
      inputs.clear();
      sums.clear();
      for (int64_t s = start; s < end; ++s) {
        for (int64_t row = first; row < last; ++row) {
          inputs.push_back(layer.inputs + layer.at(row, s) * layer.in);
          sums.push_back(gates ? gates + layer.at(row, s) * columns : own + sums.size() * columns);
        }
      }
      Project(weights, inputs, sums);
      for (int64_t s = start; s < end; ++s) {
        for (int64_t n = 0; n < count; ++n) {
          fed[n] = layer.Met(h, layer.h_initial, layer.h_fresh, first + n, s);
          if (layer.keep) {
            layer.CopyFed(h, first + n, s, kept + n * hidden);
            fed[n] = kept + n * hidden;
          }
        }
        Step(s, first, count, recurrent_weights, fed.data(), sums.data() + (s - start) * count);
      }
    }
  }

  // sums = inputs @ weights + bias
  void Project(const float* weights, const std::vector<const float*>& inputs,
               const std::vector<float*>& sums) const {
    const int64_t columns = layer.columns();
    InBlocks(columns, [&](int64_t first, auto n_vectors) {
      constexpr int N = decltype(n_vectors)::value;
      Vec bias[N] = {};
      for (int64_t n = 0, at = first; layer.bias && n < N && at < columns; ++n, at += kLanes) {
        bias[n] = Load(layer.bias + at, columns - at);
      }
      InGroups(inputs.size(), [&](int64_t row, auto n_rows) {
        constexpr int M = decltype(n_rows)::value;
        const Block<M, N> block =
            Multiplied(Block<M, N>{}, inputs.data() + row, weights + first * layer.in, layer.in);
        for (int m = 0; m < M; ++m) {
          for (int64_t n = 0, at = first; n < N && at < columns; ++n, at += kLanes) {
            Store(sums[row + m] + at, block.sums[m][n] + bias[n], columns - at);
          }
        }
      });
    });
  }

  // The s-th step of all rows; gates are written over the sums if they are asked for.
  void Step(int64_t s, int64_t first, int64_t count, const float* recurrent_weights,
            const float* const* fed, float* const* sums) const {
    const int64_t hidden = layer.hidden;
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit;
      InGroups(count, [&](int64_t n, auto n_rows) {
        constexpr int M = decltype(n_rows)::value;
        Block<M, kGates> block;
        for (int m = 0; m < M; ++m) {
          for (int gate = 0; gate < kGates; ++gate) {
            block.sums[m][gate] = Load(sums[n + m] + gate * hidden + unit, lanes);
          }
        }
        block = Multiplied(block, fed + n, recurrent_weights + unit * hidden * kGates, hidden);
        for (int m = 0; m < M; ++m) {
          const int64_t row = first + n + m, at = layer.at(row, s) * hidden + unit;
          const Vec i = Sigmoid(block.sums[m][0]), f = Sigmoid(block.sums[m][1]),
                    g = Tanh(block.sums[m][2]), o = Sigmoid(block.sums[m][3]);
          float* cell = c_last + row * hidden + unit;
          const float* met = layer.restart(row, s) ? layer.c_fresh + row * hidden + unit : cell;
          Vec c_new = f * Load(met, lanes) + i * g, h_new = o * Tanh(c_new);
          if (!layer.valid(row, s)) {
            c_new = Load(met, lanes);
            h_new = Load(layer.Met(h, layer.h_initial, layer.h_fresh, row, s) + unit, lanes);
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
  const float *h, *c, *gates;                       // as Forward left them
  const float* d_outputs;                           // [batch, time, hidden]
  float* d_inputs;                                  // [batch, time, in], or null
  float *d_weights, *d_recurrent_weights, *d_bias;  // [parts, ...]: each part adds to its own
  float *d_h, *d_c;              // [batch, hidden], of the last carry at first, then of the initial
  float *d_h_fresh, *d_c_fresh;  // [batch, hidden], or null

  static Backward Next(Arguments& arguments, Results& results, bool reverse) {
    Backward walk{NextLayer(arguments, reverse)};
    walk.h = arguments.Next();
    walk.c = arguments.Next();
    walk.gates = arguments.Next();
    walk.d_outputs = arguments.Next();
    const float *d_h = arguments.Next(), *d_c = arguments.Next();
    walk.d_inputs = results.Next();
    walk.d_weights = results.Next();
    walk.d_recurrent_weights = results.Next();
    walk.d_bias = results.Next();
    walk.d_h = results.Next();
    walk.d_c = results.Next();
    walk.d_h_fresh = results.Next();
    walk.d_c_fresh = results.Next();
    const int64_t states = walk.layer.batch * walk.layer.hidden;
    std::copy_n(d_h, states, walk.d_h);
    std::copy_n(d_c, states, walk.d_c);
    if (walk.d_h_fresh) {
      std::fill_n(walk.d_h_fresh, states, 0.0f);
      std::fill_n(walk.d_c_fresh, states, 0.0f);
    }
    return walk;
  }

  void Run(int64_t part, int64_t first, int64_t last) const {
    const int64_t count = last - first, in = layer.in, hidden = layer.hidden;
    const int64_t columns = layer.columns(), steps = layer.ChunkSteps(count);
    Workspace& workspace = Workspace::Begin();
    const float* weights =
        d_inputs ? PackTransposed(workspace, layer.weights, in, columns) : nullptr;
    const float* recurrent_weights =
        PackTransposed(workspace, layer.recurrent_weights, hidden, columns);
    const Rows d_sums(workspace, steps * count, columns), inputs(workspace, steps * count, in),
        fed(workspace, steps * count, hidden);
    float* const d_weights_part = d_weights + part * in * columns;
    float* const d_recurrent_part = d_recurrent_weights + part * hidden * columns;
    float* const d_bias_part = d_bias + part * columns;
    std::fill_n(d_weights_part, in * columns, 0.0f);
    std::fill_n(d_recurrent_part, hidden * columns, 0.0f);
    std::fill_n(d_bias_part, columns, 0.0f);
    std::vector<int64_t> places;  // of a chunk's rows in [batch, time]
    for (int64_t end = layer.time; end > 0; end -= std::min(steps, end)) {
      places.clear();
      for (int64_t s = end - 1; s >= std::max<int64_t>(end - steps, 0); --s) {
        const int64_t top = places.size();
        for (int64_t row = first; row < last; ++row) {
          const int64_t n = places.size();
          Pointwise(s, row, d_sums[n]);
          std::copy_n(layer.inputs + layer.at(row, s) * in, in, inputs[n]);
          layer.CopyFed(h, row, s, fed[n]);
          places.push_back(layer.at(row, s));
        }
        IntoHidden(s, first, count, recurrent_weights, d_sums, top);
      }
      const int64_t size = places.size();
      AddOuter(inputs, in, d_sums, columns, size, d_weights_part);
      AddOuter(fed, hidden, d_sums, columns, size, d_recurrent_part);
      for (int64_t n = 0; n < size; ++n) {
        for (int64_t k = 0; k < columns; ++k) d_bias_part[k] += d_sums[n][k];
      }
      if (d_inputs) IntoInputs(places, weights, d_sums);
    }
  }

  // The s-th step of a row: from the gradients of the state it left to those of its sums, in
  // d_sums, and of the cell it met, in d_c. d_h takes in the output's.
  void Pointwise(int64_t s, int64_t row, float* d_sums) const {
    const int64_t hidden = layer.hidden, at = layer.at(row, s);
    const float* c_met = layer.Met(c, layer.c_initial, layer.c_fresh, row, s);
    const float* gate = gates + at * layer.columns();
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int64_t lanes = hidden - unit, state = row * hidden + unit;
      const Vec d_hidden = Load(d_h + state, lanes) + Load(d_outputs + at * hidden + unit, lanes);
      Vec d_cell = Load(d_c + state, lanes);
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
        d_cell *= f;
      } else {
        Store(d_h + state, d_hidden, lanes);
        for (int n = 0; n < kGates; ++n) Store(to + n * hidden, Vec{}, lanes);
      }
      if (layer.restart(row, s)) {
        AddTo(d_c_fresh + state, d_cell, lanes);
        d_cell = Vec{};
      }
      Store(d_c + state, d_cell, lanes);
    }
  }

  // d_h: from the gradients of the s-th step's sums, in d_sums from row `top` on, to that of the
  // hidden state it met.
  void IntoHidden(int64_t s, int64_t first, int64_t count, const float* recurrent_weights,
                  const Rows& d_sums, int64_t top) const {
    const int64_t hidden = layer.hidden, columns = layer.columns();
    InBlocks(hidden, [&](int64_t unit, auto n_vectors) {
      constexpr int N = decltype(n_vectors)::value;
      InGroups(count, [&](int64_t group, auto n_rows) {
        constexpr int M = decltype(n_rows)::value;
        const float* rows[M];
        for (int m = 0; m < M; ++m) rows[m] = d_sums[top + group + m];
        const Block<M, N> block =
            Multiplied(Block<M, N>{}, rows, recurrent_weights + unit * columns, columns);
        for (int m = 0; m < M; ++m) {
          const int64_t row = first + group + m;
          for (int64_t n = 0, at = unit; n < N && at < hidden; ++n, at += kLanes) {
            const int64_t lanes = hidden - at, state = row * hidden + at;
            Vec d_met = block.sums[m][n];
            if (layer.keep) d_met *= Load(layer.keep + state, lanes);
            if (!layer.valid(row, s)) d_met = Load(d_h + state, lanes);
            if (layer.restart(row, s)) {
              AddTo(d_h_fresh + state, d_met, lanes);
              d_met = Vec{};
            }
            Store(d_h + state, d_met, lanes);
          }
        }
      });
    });
  }

  // d_inputs at the places of a chunk's rows.
  void IntoInputs(const std::vector<int64_t>& places, const float* weights,
                  const Rows& d_sums) const {
    InBlocks(layer.in, [&](int64_t first, auto n_vectors) {
      constexpr int N = decltype(n_vectors)::value;
      InGroups(places.size(), [&](int64_t group, auto n_rows) {
        constexpr int M = decltype(n_rows)::value;
        const float* rows[M];
        for (int m = 0; m < M; ++m) rows[m] = d_sums[group + m];
        const Block<M, N> block =
            Multiplied(Block<M, N>{}, rows, weights + first * layer.columns(), layer.columns());
        for (int m = 0; m < M; ++m) {
          float* to = d_inputs + places[group + m] * layer.in;
          for (int64_t n = 0, at = first; n < N && at < layer.in; ++n, at += kLanes) {
            Store(to + at, block.sums[m][n], layer.in - at);
          }
        }
      });
    });
  }
};

// Every walk's rows in `parts` parts.
template <typename Walk>
ffi::Error RunAll(ffi::ThreadPool& pool, const std::vector<Walk>& walks, int64_t parts) {
  const int64_t count = walks.size();
  return Parallel(pool, count * parts, [&](int64_t n) {
    const int64_t part = n / count;
    const Walk& walk = walks[n % count];
    const int64_t batch = walk.layer.batch;
    walk.Run(part, part * batch / parts, (part + 1) * batch / parts);
  });
}

template <typename Walk>
ffi::Error Run(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets,
               ffi::Span<const int64_t> reverse, int64_t parts) {
  Arguments arguments(args);
  Results results(rets);
  std::vector<Walk> walks;
  for (const int64_t each : reverse) walks.push_back(Walk::Next(arguments, results, each));
  return RunAll(pool, walks, parts);
}

auto Binding() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .RemainingArgs()
      .RemainingRets()
      .Attr<ffi::Span<const int64_t>>("reverse")
      .Attr<int64_t>("parts");
}

}  // namespace
}  // namespace rnn_jax

XLA_FFI_DEFINE_HANDLER_SYMBOL(LstmForward, rnn_jax::Run<rnn_jax::Forward>, rnn_jax::Binding());
XLA_FFI_DEFINE_HANDLER_SYMBOL(LstmBackward, rnn_jax::Run<rnn_jax::Backward>, rnn_jax::Binding());
