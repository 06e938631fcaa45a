"""The recurrent cells and their walk through time again: row by row, step by step, in NumPy."""

import numpy as np

FUNCTIONS = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "identity": lambda x: x,
}


def norm(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def parts(spec, p, x, h, keep):
    """`x W + b` and `h U + b_h` of one row."""
    keep_x, keep_h = keep
    x = x * keep_x / (1 - spec.input_dropout)
    h = h * keep_h
    wx, uh = x @ p["kernel"], h @ p["recurrent_kernel"]
    if spec.layer_norm:
        cuts = np.cumsum(np.array(spec.norm_groups) * spec.hidden)[:-1]
        wx = np.concatenate([norm(piece) for piece in np.split(wx, cuts)]) * p["input_scale"]
        uh = np.concatenate([norm(piece) for piece in np.split(uh, cuts)]) * p["recurrent_scale"]
    return wx + p.get("bias", 0.0), uh + p.get("recurrent_bias", 0.0)


def simple_rnn(spec, p, h, x, keep):
    wx, uh = parts(spec, p, x, h, keep)
    h = FUNCTIONS[spec.activation](wx + uh)
    return h, h


def lstm(spec, p, carry, x, keep):
    f_rec, f_act = FUNCTIONS[spec.recurrent_activation], FUNCTIONS[spec.activation]
    h, c = carry
    wx, uh = parts(spec, p, x, h, keep)
    i, f, g, o = np.split(wx + uh, 4)
    peephole = p.get("peephole", np.zeros((3, spec.hidden)))
    c_new = f_rec(f + peephole[1] * c) * c + f_rec(i + peephole[0] * c) * f_act(g)
    o = f_rec(o + peephole[2] * c_new)
    seen = norm(c_new) * p["cell_scale"] + p["cell_bias"] if spec.layer_norm else c_new
    h = o * f_act(seen)
    if spec.projection:
        h = h @ p["projection_kernel"]
    return (h, c_new), h


def gru(spec, p, h, x, keep):
    f_rec, f_act = FUNCTIONS[spec.recurrent_activation], FUNCTIONS[spec.activation]
    wx, uh = parts(spec, p, x, h, keep)
    (xr, xz, xn), (hr, hz, hn) = np.split(wx, 3), np.split(uh, 3)
    r, z = f_rec(xr + hr), f_rec(xz + hz)
    if spec.reset_after:
        n = f_act(xn + r * hn)
    else:
        _, uh = parts(spec, p, x, r * h, keep)
        n = f_act(xn + np.split(uh, 3)[2])
    h = (1 - z) * n + z * h
    return h, h


def row(carry, b):
    """Row `b` of a carry, a tuple of arrays; of a carry of one array, that array's."""
    parts = tuple(np.asarray(part)[b] for part in carry)
    return parts if len(parts) > 1 else parts[0]


STEPS = {"simple_rnn": simple_rnn, "lstm": lstm, "gru": gru}


def unroll(spec, params, inputs, initial, fresh, mask=None, resets=None, reverse=False, keep=None):
    """Walks each row through time.

    initial and fresh: tuples of arrays [batch, ...]: the carry at the start, and after a reset.
    keep: (bool[batch, in_features], bool[batch, features]), what dropout keeps.

    Returns the final carry, a tuple of arrays, and the outputs.
    """
    params = {name: np.asarray(leaf) for name, leaf in params.items()}
    batch, time, _ = inputs.shape
    carries, rows = [], []
    for b in range(batch):
        carry = row(initial, b)
        kept = (1.0, 1.0) if keep is None else tuple(np.asarray(k)[b] for k in keep)
        outputs = [None] * time
        for t in reversed(range(time)) if reverse else range(time):
            crossed = t + 1 if reverse else t
            if resets is not None and crossed < time and resets[b, crossed]:
                carry = row(fresh, b)
            if mask is None or mask[b, t]:
                carry, outputs[t] = STEPS[spec.kind](spec, params, carry, inputs[b, t], kept)
        width = np.shape(carry[0] if len(initial) > 1 else carry)
        rows.append([np.zeros(width) if o is None else o for o in outputs])
        carries.append(carry if len(initial) > 1 else (carry,))
    return tuple(np.stack(part) for part in zip(*carries, strict=True)), np.array(rows)
