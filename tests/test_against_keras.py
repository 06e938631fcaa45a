"""Outputs, final states and all gradients against Keras (recorded by `references/record.py`)."""

import jax
import numpy as np
import pytest
from references.stored import Case, names

from rnn_jax import interop
from rnn_jax.nn.layers import Bidirectional
from rnn_jax.types import LSTMState

# float64 shows that the equations agree; float32 adds rounding, which is worst in the deepest.
CASES = [(name, "float64") for name in names("keras")]
CASES += [(name, "float32") for name in names("keras") if "stack" in name]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_numbers_are_those_of_keras(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        compare(Case("keras", name, dtype))


def compare(case):
    module, variables = convert(case)
    mask = case.get("mask")
    masked = np.zeros(case["inputs"].shape[:2], bool) if mask is None else ~mask
    steps = {"mask": mask}
    if case.config["mask"] == "padded":
        steps = {"lengths": mask.sum(axis=1)}
    inputs = np.where(masked[..., None], np.array(np.nan, case.dtype), case["inputs"])
    above = case["cotangent/outputs"] + 1e3 * masked[..., None].astype(case.dtype)

    @jax.jit
    def run(variables, inputs, initial, cotangent):
        def forward(variables, inputs, initial):
            return module.apply(variables, inputs, **steps, initial=initial)

        result, pull_back = jax.vjp(forward, variables, inputs, initial)
        return result, pull_back(cotangent)

    cotangent = (carry_of(module, case, "cotangent"), above)
    result, gradients = run(variables, inputs, carry_of(module, case, "initial"), cotangent)
    carry, outputs = result
    # At masked steps Keras' Bidirectional has zeros, as we do; its other layers repeat the output
    # before, which is zero at first.
    ours = outputs if case.config["merge"] else filled_forward(outputs, masked)
    case.agree("outputs", ours, case["outputs"])
    assert not np.any(np.asarray(outputs)[masked])
    agree_lists(case, "final", lists_of(module, carry))

    variables_gradient, inputs_gradient, initial_gradient = gradients
    case.agree("gradient of inputs", inputs_gradient, case["gradient/inputs"])
    agree_lists(case, "gradient/initial", lists_of(module, initial_gradient))
    agree_lists(
        case, "gradient/weights", stacked(case, interop.to_keras(module, variables_gradient))
    )


def convert(case):
    kind, _, variant = case.config["kind"].partition("_reset_")
    weights = case.layers("weights")
    return interop.from_keras(
        weights if len(weights) > 1 else weights[0],
        kind,
        bidirectional=case.config["merge"] is not None,
        merge=case.config["merge"] or "concat",
        reset_after=(variant == "after") if variant and not case.config["bias"] else None,
    )


def stacked(case, value):
    """What belongs to each layer, in a list also where there is one."""
    return value if case.config["layers"] > 1 else [value]


def carry_of(module, case, prefix):
    """The module's carry, from Keras' states in order."""

    def one(layer, states):
        if isinstance(layer, Bidirectional):
            half = len(states) // 2
            return one(layer.forward, states[:half]), one(layer.backward, states[half:])
        return LSTMState(*states) if len(states) == 2 else states[0]

    layers = stacked(case, module.layers if case.config["layers"] > 1 else module)
    carries = tuple(map(one, layers, layer_states(case, prefix)))
    return carries if case.config["layers"] > 1 else carries[0]


def layer_states(case, prefix):
    """The lists of Keras' states; `cotangent` holds that of the outputs as well."""
    if prefix != "cotangent":
        return case.layers(prefix)
    entries = {key: array for key, array in case.group(prefix).items() if key != "outputs"}
    counts = range(case.config["layers"])
    return [[entries[key] for key in sorted(entries) if key[0] == str(n)] for n in counts]


def lists_of(module, carry):
    """Undoes `carry_of`: leaves in order are Keras' states."""
    layers = carry if hasattr(module, "layers") else [carry]
    return [jax.tree.leaves(layer) for layer in layers]


def agree_lists(case, what, actual):
    for n, (arrays, expected) in enumerate(zip(actual, case.layers(what), strict=True)):
        for i, (array, reference) in enumerate(zip(arrays, expected, strict=True)):
            case.agree(f"{what} {n} {i}", array, reference)


def filled_forward(outputs, masked):
    outputs = np.array(outputs)
    for t in range(1, outputs.shape[1]):
        outputs[:, t] = np.where(masked[:, t, None], outputs[:, t - 1], outputs[:, t])
    return outputs
