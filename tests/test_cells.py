"""Cells: parameters, equations against NumPy, dropout, types, and what they refuse."""

import dataclasses
import inspect
import typing

import jax
import jax.numpy as jnp
import numpy as np
import numpy_cells
import pytest

from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.cells.wrappers import learnable_initial, zoneout
from rnn_jax.types import Cell, Direction, LSTMState, NoiseKey
from rnn_jax.unrolling import unroll, unroll_directions

KEY = jax.random.key(7)

VARIANTS = {
    "simple_rnn": simple_rnn(4),
    "simple_rnn relu": simple_rnn(4, activation="relu", recurrent_bias=True),
    "simple_rnn norm": simple_rnn(4, layer_norm=True, activation="identity"),
    "lstm": lstm(4),
    "lstm no bias": lstm(4, use_bias=False, activation="sigmoid"),
    "lstm projection": lstm(5, projection=3, recurrent_bias=True, initializer="torch"),
    "lstm peepholes": lstm(4, peepholes=True, initializer="torch"),
    "lstm everything": lstm(
        5, projection=3, peepholes=True, layer_norm=True, recurrent_bias=True, initializer="torch"
    ),
    "gru after": gru(4, initializer="torch"),
    "gru before": gru(4, reset_after=False),
    "gru before two biases": gru(4, reset_after=False, recurrent_bias=True, initializer="torch"),
    "gru no bias": gru(4, use_bias=False),
    "gru norm": gru(4, layer_norm=True, initializer="torch"),
    "gru norm before": gru(4, layer_norm=True, reset_after=False, recurrent_activation="tanh"),
}


pytestmark = pytest.mark.usefixtures("float64")


def double(tree):
    """Every leaf in float64, and moved off the values that initialisation gives many of them."""
    rng = np.random.default_rng(3)
    return jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf) + 0.1 * rng.normal(size=leaf.shape)), tree
    )


def case(cell, batch=3, time=6, in_features=2):
    """Parameters, inputs and an initial carry, all different from entry to entry."""
    params = double(jax.jit(cell.init, static_argnums=1)(KEY, in_features))
    inputs = np.random.default_rng(1).normal(size=(batch, time, in_features))
    return params, inputs, double(cell.initial_carry(params, batch))


@pytest.mark.parametrize(
    ("cell", "in_features", "count"),
    [
        (simple_rnn(16), 64, 1_296),
        (lstm(8), 64, 2_336),
        (gru(8), 64, 1_776),
        (lstm(64), 128, 49_408),
    ],
)
def test_parameter_counts_are_keras(cell, in_features, count):
    assert sum(leaf.size for leaf in jax.tree.leaves(cell.init(KEY, in_features))) == count


def test_default_initialisation():
    params = lstm(hidden=8).init(KEY, 64)
    assert {name: leaf.dtype for name, leaf in params.items()} == dict.fromkeys(params, jnp.float32)
    for gate in np.split(np.asarray(params["recurrent_kernel"]), 4, axis=1):
        np.testing.assert_allclose(gate.T @ gate, np.eye(8), atol=1e-5)
    limit = np.sqrt(6 / (64 + 32))
    assert 0.9 * limit < np.abs(params["kernel"]).max() <= limit
    np.testing.assert_array_equal(params["bias"].reshape(4, 8), np.outer([0, 1, 0, 0], np.ones(8)))
    assert lstm(8, forget_bias=2.5).init(KEY, 3)["bias"].reshape(4, 8)[1, 0] == 2.5


@pytest.mark.parametrize(("make", "gates"), [(lstm, 4), (gru, 3), (simple_rnn, 1)])
def test_keras_initialisation(make, gates):
    params = make(8, initializer="keras").init(KEY, 64)
    recurrent = np.asarray(params["recurrent_kernel"])
    assert recurrent.shape == (8, gates * 8)
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(8), atol=1e-5)  # all gates together
    default = make(8).init(KEY, 64)
    for name in params.keys() - {"recurrent_kernel"}:
        np.testing.assert_array_equal(params[name], default[name])


def test_torch_initialisation():
    params = lstm(hidden=25, recurrent_bias=True, initializer="torch").init(KEY, 64)
    for leaf in params.values():
        assert 0.15 < np.abs(leaf).max() <= 0.2
    assert (
        np.abs(np.mean(params["bias"].reshape(4, 25)[1])) < 0.1
    )  # nothing added to the forget gate


@pytest.mark.parametrize("name", VARIANTS)
def test_equations(name):
    cell = VARIANTS[name]
    params, inputs, initial = case(cell)
    carry, outputs = unroll(cell, params, inputs, initial=initial)
    flat = tuple(jax.tree.leaves(initial))
    expected_carry, expected = numpy_cells.unroll(cell.spec, params, inputs, flat, flat)
    np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-13)
    for leaf, other in zip(jax.tree.leaves(carry), expected_carry, strict=True):
        np.testing.assert_allclose(leaf, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "cell",
    [
        simple_rnn(5, input_dropout=0.3, recurrent_dropout=0.4),
        lstm(5, projection=3, recurrent_dropout=0.4),
        gru(5, input_dropout=0.3, recurrent_dropout=0.4),
        gru(5, reset_after=False, recurrent_dropout=0.4),
    ],
)
def test_dropout_is_one_mask_a_row(cell):
    params, inputs, initial = case(cell, in_features=4)
    noise = cell.noise(KEY, 3, 6, 4)
    keep = [np.ones((3, 1)) if each is None else np.asarray(each)[:, 0] for each in noise]
    assert any(0 < (mask > 0).mean() < 1 for mask in keep)
    _, outputs = unroll(cell, params, inputs, initial=initial, key=KEY)
    flat = tuple(jax.tree.leaves(initial))
    _, expected = numpy_cells.unroll(cell.spec, params, inputs, flat, flat, keep=keep)
    np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-13)
    _, quiet = unroll(cell, params, inputs, initial=initial)
    assert np.abs(quiet - outputs).max() > 1e-3


@pytest.mark.parametrize("kernel", ["scan", "fused"])
def test_the_share_that_recurrent_dropout_keeps_may_be_an_argument(kernel):
    inputs = jnp.ones((3, 6, 4))
    params = gru(5).init(KEY, 4)

    @jax.jit
    def outputs(kept):
        direction = Direction(gru(5, recurrent_dropout=0.5), params, False, None)
        keys = [NoiseKey(KEY, kept)]
        return unroll_directions([direction], inputs, keys=keys, kernel=kernel)[0][1]

    for rate in (0.25, 0.7):
        own = unroll(gru(5, recurrent_dropout=rate), params, inputs, key=KEY, kernel=kernel)[1]
        np.testing.assert_allclose(outputs(jnp.float32(1 - rate)), own, atol=1e-6)
    assert outputs._cache_size() == 1
    still = unroll(gru(5), params, inputs, kernel=kernel)[1]
    np.testing.assert_allclose(outputs(jnp.float32(1)), still, atol=1e-6)


def test_dropout_keeps_the_mean():
    cell = simple_rnn(1, activation="identity", use_bias=False, input_dropout=0.25)
    params = {"kernel": jnp.ones((10_000, 1)), "recurrent_kernel": jnp.zeros((1, 1))}
    _, outputs = unroll(cell, params, jnp.ones((4, 2, 10_000)), key=KEY)
    np.testing.assert_allclose(outputs / 10_000, 1.0, atol=0.03)
    np.testing.assert_array_equal(outputs[:, 0], outputs[:, 1])
    assert len(np.unique(outputs[:, 0])) == 4


SMOOTH = ["simple_rnn", "lstm everything", "gru after", "gru before"]


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_to_second_order(name):
    """In a random direction of parameters, inputs and initial carry: central differences."""
    cell = VARIANTS[name]
    at = case(cell, batch=2, time=3)
    leaves, structure = jax.tree.flatten(at)
    rng = np.random.default_rng(2)
    direction = structure.unflatten([rng.normal(size=leaf.shape) for leaf in leaves])
    weights = rng.normal(size=(2, 3, cell.spec.features))

    def along(t):
        moved = jax.tree.map(lambda x, d: x + t * d, at, direction)
        carry, outputs = unroll(cell, *moved[:2], initial=moved[2])
        return (weights * outputs).sum() + sum(leaf.sum() for leaf in jax.tree.leaves(carry))

    first = jax.grad(along)

    def derivatives(t):
        return along(t), first(t), jax.grad(first)(t), jax.jvp(first, (t,), (1.0,))[1]

    step = 1e-5
    value, slope, reverse, forward = jax.jit(jax.vmap(derivatives))(jnp.array([-step, 0, step]))
    np.testing.assert_allclose(slope[1], (value[2] - value[0]) / (2 * step), rtol=1e-6)
    np.testing.assert_allclose(reverse[1], (slope[2] - slope[0]) / (2 * step), rtol=1e-5)
    np.testing.assert_allclose(forward, reverse, rtol=1e-9)


@pytest.mark.parametrize("cell", [simple_rnn(4), lstm(4, projection=3), gru(4)])
def test_bfloat16_products_with_float32_state(cell):
    factory = {"simple_rnn": simple_rnn, "lstm": lstm, "gru": gru}[cell.spec.kind]
    half = factory(**{**vars(cell.spec), "dtype": jnp.bfloat16})
    params = cell.init(KEY, 3)
    inputs = jax.random.normal(KEY, (2, 50, 3), jnp.float32)
    carry, outputs = unroll(half, params, inputs)
    assert outputs.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype(jnp.float32)}
    _, exact = unroll(cell, params, inputs)
    np.testing.assert_allclose(outputs.astype(jnp.float32), exact, atol=0.05)
    gradients = jax.grad(lambda p: unroll(half, p, inputs)[1].astype(jnp.float32).sum())(params)
    assert {leaf.dtype for leaf in gradients.values()} == {jnp.dtype(jnp.float32)}
    stored = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    np.testing.assert_allclose(
        unroll(cell, stored, inputs)[1].astype(jnp.float32), exact, atol=0.05
    )


def test_param_dtype():
    params = gru(4, param_dtype=jnp.bfloat16).init(KEY, 3)
    assert {leaf.dtype for leaf in params.values()} == {jnp.dtype(jnp.bfloat16)}
    assert lstm(4, param_dtype=jnp.float64).init(KEY, 3)["kernel"].dtype == jnp.float64


def test_lstm_keeps_its_memory():
    """Forget gate at 1, input gate at 0: nothing changes in 10,000 steps, and the gradient is 1."""
    cell = lstm(3)
    params = cell.init(KEY, 2) | {"bias": jnp.repeat(jnp.array([-100.0, 100, 0, 0]), 3)}
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
    inputs = jax.random.normal(KEY, (2, 10_000, 2), jnp.float32)
    start = LSTMState(*jax.random.normal(KEY, (2, 2, 3), jnp.float32))

    def final(memory):
        carry, _ = unroll(cell, params, inputs, initial=start._replace(cell=memory))
        return carry.cell.sum(), carry.cell

    gradient, end = jax.grad(final, has_aux=True)(start.cell)
    np.testing.assert_array_equal(end, start.cell)
    np.testing.assert_array_equal(gradient, np.ones((2, 3)))


def test_cells_are_equal_by_their_options():
    assert lstm(4) == lstm(4, forget_bias=1.0, dtype=None)
    assert hash(lstm(4, dtype="bfloat16")) == hash(lstm(4, dtype=jnp.bfloat16))
    assert lstm(4) != lstm(4, forget_bias=0.0)
    assert gru(4) != lstm(4)
    assert gru(4, recurrent_bias=False) != gru(4)
    assert learnable_initial(zoneout(gru(4), 0.1)) == learnable_initial(zoneout(gru(4), 0.1))
    assert zoneout(gru(4), 0.1) != zoneout(gru(4), 0.2)
    pick = Cell(
        lambda key, n: {}, lambda p, x, noise=None: x, lambda p, c, x: (c, c), lambda p, b: 0
    )
    assert pick == pick
    assert pick != Cell(pick.init, pick.project, pick.step, pick.initial_carry)


def test_a_cell_of_ones_own():
    """A leaky integrator, in the ten lines that a user writes."""

    def leaky(units: int, decay: float) -> Cell:
        return Cell(
            init=lambda key, n: {"kernel": jax.random.normal(key, (n, units), jnp.float64)},
            project=lambda params, inputs, noise=None: inputs @ params["kernel"],
            step=lambda params, h, x: (decay * h + x, decay * h + x),
            initial_carry=lambda params, batch: jnp.zeros((batch, units), jnp.float64),
            spec=("leaky", units, decay),
        )

    cell = leaky(3, 0.5)
    params, inputs, _ = case(cell)
    mask = np.array([[1, 1, 0, 1, 0, 0]] * 3, bool)
    carry, outputs = unroll(cell, params, inputs, mask=mask)
    x = inputs @ np.asarray(params["kernel"])
    np.testing.assert_allclose(carry, x[:, 0] / 4 + x[:, 1] / 2 + x[:, 3])
    np.testing.assert_allclose(outputs[:, 3], carry)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lstm(0), "lstm: hidden must be an int of at least 1, got 0"),
        (lambda: gru(2.5), "gru: hidden must be an int of at least 1, got 2.5"),
        (
            lambda: simple_rnn(3, activation="tahn"),
            "activation must be a function or one of tanh, rel",
        ),
        (lambda: lstm(3, recurrent_dropout=1.0), r"recurrent_dropout must be a number in \[0, 1\)"),
        (lambda: lstm(3, projection=0), "projection must be None or an int of at least 1, got 0"),
        (
            lambda: lstm(3, use_bias=False, recurrent_bias=True),
            "recurrent_bias=True needs use_bias",
        ),
        (lambda: gru(3, use_bias=1), "use_bias must be True or False, got 1"),
        (
            lambda: gru(3, initializer="he"),
            "initializer must be one of gatewise, keras, torch, got 'he'",
        ),
        (
            lambda: lstm(3, initializer="he"),
            "initializer must be one of gatewise, keras, torch, got 'he'",
        ),
        (lambda: gru(3, dtype=jnp.int32), "dtype must be None or a floating type"),
        (lambda: gru(3, param_dtype="int8"), "param_dtype must be a floating type"),
        (lambda: zoneout(gru(3), 1.5), r"rate must be a number in \[0, 1\)"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_help_shows_every_option_with_its_default():
    for factory, spec in ((simple_rnn, "simple_rnn"), (lstm, "lstm"), (gru, "gru")):
        signature = inspect.signature(factory)
        assert spec == factory(3).spec.kind
        fields = dataclasses.fields(factory(3).spec)
        assert list(signature.parameters) == [field.name for field in fields]
        keywords = typing.get_type_hints(factory, include_extras=True)["options"]
        assert set(typing.get_type_hints(*typing.get_args(keywords))) == {
            field.name for field in fields[1:]
        }
        defaults = {
            name: each.default for name, each in signature.parameters.items() if name != "hidden"
        }
        assert factory(3, **defaults) == factory(3)
    assert inspect.signature(lstm).parameters["forget_bias"].default is None


def test_an_unknown_option_is_named():
    with pytest.raises(TypeError, match=r"lstm\(\) got .* 'activatoin'; did you mean 'activation'"):
        lstm(3, activatoin="relu")
    with pytest.raises(TypeError, match=r"gru\(\) got .* 'peepholes', expected hidden, use_bias"):
        gru(3, peepholes=True)


WHOLE = {
    "init": lambda key, n: {"kernel": jnp.ones((n, 3))},
    "project": lambda params, inputs: inputs @ params["kernel"],
    "step": lambda params, h, x: (h + x, h + x),
    "initial_carry": lambda params, batch: jnp.zeros((batch, 3)),
}


def states(batch):
    return LSTMState(jnp.zeros((batch, 3)), jnp.zeros((batch, 3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"step": lambda p, h, x: h + x},
            r"step must return a pair \(carry, output\), got float64",
        ),
        ({"step": lambda p, h, x: None}, r"step must return a pair \(carry, output\), got None"),
        (
            {
                "initial_carry": lambda p, batch: states(batch),
                "step": lambda p, carry, x: LSTMState(carry.hidden + x, carry.cell),
            },
            r"step must return a pair \(carry, output\), got the carry alone",
        ),
        (
            {"step": lambda p, h, x: ((h, h), x)},
            r"step must return a carry like .*, float64\[2, 3\], got \(float64\[2, 3\], float64",
        ),
        (
            {"step": lambda p, h, x: (h[:, :2], x)},
            r"step must return a carry like .*with carry float64\[2, 3\], got float64\[2, 2\]",
        ),
        (
            {"step": lambda p, h, x: (h.astype(jnp.bfloat16), x)},
            r"step must return a carry like .*carry float64\[2, 3\], got bfloat16\[2, 3\]",
        ),
        (
            {
                "initial_carry": lambda p, batch: states(batch),
                "step": lambda p, carry, x: (carry._replace(cell=carry.cell[:, :1]), x),
            },
            r"with carry.cell float64\[2, 3\], got float64\[2, 1\]",
        ),
        ({"step": lambda p, h, x: (h, (x, x))}, r"step must return an output \[batch, features\]"),
        ({"step": lambda p, h, x: (h, x[0])}, r"an output .*batch = 2, got float64\[3\]"),
        (
            {"noise": lambda key, batch, time, n: jnp.ones((batch, time, n))},
            r"project must take \(params, inputs, noise\), since .* got project\(params, inputs\)",
        ),
        ({"project": lambda p, x: x[0]}, r"project must return arrays \[batch, time, ...\]"),
        ({"project": lambda p, x: "x"}, "project must return a pytree of arrays, got str"),
        ({"init": lambda key, n: "x"}, "init must return a pytree of arrays, got str"),
        (
            {"init": lambda key, n: {"a": object()}},
            "init must return a pytree of arrays, got one w",
        ),
        (
            {"initial_carry": lambda p, b: "x"},
            "initial_carry must return a pytree of arrays, got s",
        ),
        (
            {"initial_carry": lambda p, batch: jnp.zeros(3)},
            r"initial_carry must return arrays \[batch, ...\] with batch = 2, got carry of shape",
        ),
    ],
)
def test_a_half_right_cell_is_named_with_what_is_wrong(changes, message):
    inputs, params = jnp.ones((2, 4, 5)), WHOLE["init"](None, 5)
    _, outputs = unroll(Cell(**WHOLE), params, inputs)
    np.testing.assert_allclose(outputs[:, -1], 20)
    cell = Cell(**(WHOLE | changes))
    with pytest.raises(ValueError, match=r"Cell\(at 0x\w+\): .*" + message) as caught:
        unroll(cell, params, inputs, key=KEY)
    assert "\n" not in str(caught.value)


def test_a_cell_s_own_error_is_not_hidden():
    def step(params, h, x):
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        unroll(Cell(**(WHOLE | {"step": step})), WHOLE["init"](None, 5), jnp.ones((2, 4, 5)))


def test_zoneout_mixes_old_and_new():
    cell = zoneout(lstm(4), LSTMState(hidden=0.25, cell=0.5))
    params, inputs, initial = case(cell, time=5)
    new, _ = unroll(lstm(4), params, inputs[:, :1], initial=initial)
    carry, outputs = unroll(cell, params, inputs[:, :1], initial=initial)
    np.testing.assert_allclose(carry.hidden, 0.25 * initial.hidden + 0.75 * new.hidden)
    np.testing.assert_allclose(carry.cell, 0.5 * initial.cell + 0.5 * new.cell)
    np.testing.assert_array_equal(outputs[:, -1], carry.hidden)

    noisy, outputs = unroll(cell, params, inputs[:, :1], initial=initial, key=KEY)
    held = np.asarray(noisy.cell == initial.cell)
    np.testing.assert_allclose(noisy.cell, np.where(held, initial.cell, new.cell))
    assert 0 < held.mean() < 1
    np.testing.assert_array_equal(outputs[:, -1], noisy.hidden)


def test_zoneout_draws_anew_at_each_step():
    cell = zoneout(simple_rnn(200, activation="identity", use_bias=False), 0.3)
    params = {"kernel": jnp.ones((1, 200)), "recurrent_kernel": jnp.zeros((200, 200))}
    inputs = jnp.arange(1.0, 7).reshape(1, 6, 1)
    _, outputs = unroll(cell, params, inputs, key=KEY)
    held = np.diff(np.asarray(outputs)[0], axis=0) == 0
    np.testing.assert_allclose(held.mean(), 0.3, atol=0.05)
    assert len({tuple(row) for row in held}) == 5


def test_learnable_initial_carry():
    cell = learnable_initial(lstm(4, projection=3))
    params = cell.init(KEY, 2)
    assert params["initial_hidden"].shape == (3,)
    plain = unroll(lstm(4, projection=3), {n: p for n, p in params.items() if "initial" not in n},
                   jnp.ones((2, 3, 2)))  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, unroll(cell, params, jnp.ones((2, 3, 2))), plain)

    params, inputs, _ = case(cell)
    resets = np.zeros((3, 6), bool)
    resets[:, 2] = True
    _, outputs = unroll(cell, params, inputs, resets=resets)
    _, fresh = unroll(cell, params, inputs[:, 2:])
    np.testing.assert_allclose(outputs[:, 2:], fresh, rtol=1e-12)
    gradients = jax.grad(lambda p: unroll(cell, p, inputs)[1].sum())(params)
    assert all(np.all(leaf != 0) for leaf in gradients.values())


def test_wrappers_combine():
    cell = learnable_initial(zoneout(gru(4, input_dropout=0.3, recurrent_dropout=0.5), 0.4))
    params, inputs, _ = case(cell)
    one = unroll(cell, params, inputs, key=KEY, lengths=np.array([6, 2, 4]), remat_chunk=4)
    two = unroll(cell, params, inputs, key=KEY, lengths=np.array([6, 2, 4]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), one, two)
