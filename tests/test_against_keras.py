"""Outputs, final states and all gradients against Keras (recorded by `references/record.py`);
options that those leave alone, read off `get_config()` (by `references/record_layers.py`)."""

import jax
import numpy as np
import pytest
from references.stored import Case, names

from rnn_jax import interop

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
    theirs = interop.outputs_to_keras(module, outputs, **steps)
    case.agree("outputs", theirs, case["outputs"])
    assert not np.any(np.asarray(outputs)[masked])
    agree_lists(case, "final", stacked(case, interop.carry_to_keras(module, carry)))

    variables_gradient, inputs_gradient, initial_gradient = gradients
    case.agree("gradient of inputs", inputs_gradient, case["gradient/inputs"])
    initial_gradient = interop.carry_to_keras(module, initial_gradient)
    agree_lists(case, "gradient/initial", stacked(case, initial_gradient))
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
        merge=case.config["merge"],
        reset_after=(variant == "after") if variant and not case.config["bias"] else None,
    )


def stacked(case, value):
    """What belongs to each layer, in a list also where there is one."""
    return value if case.config["layers"] > 1 else [value]


def carry_of(module, case, prefix):
    """The module's carry, from Keras' states in order."""
    states = layer_states(case, prefix)
    return interop.carry_from_keras(module, states if case.config["layers"] > 1 else states[0])


def layer_states(case, prefix):
    """The lists of Keras' states; `cotangent` holds that of the outputs as well."""
    if prefix != "cotangent":
        return case.layers(prefix)
    entries = {key: array for key, array in case.group(prefix).items() if key != "outputs"}
    counts = range(case.config["layers"])
    return [[entries[key] for key in sorted(entries) if key[0] == str(n)] for n in counts]


def agree_lists(case, what, actual):
    for n, (arrays, expected) in enumerate(zip(actual, case.layers(what), strict=True)):
        for i, (array, reference) in enumerate(zip(arrays, expected, strict=True)):
            case.agree(f"{what} {n} {i}", array, reference)


@pytest.mark.parametrize("name", names("keras_layers"))
def test_a_configuration_settles_all_options(name):
    case = Case("keras_layers", name, "float64")
    layers = case.config
    one = len(layers) == 1
    weights = [array for _, array in sorted(case.group("weights").items())]
    mask, initial = case.get("mask"), case.layers("initial") or None
    zeros = layers[-1].get("zero_output_for_mask", False)
    with jax.enable_x64(True):
        module, variables = interop.from_keras(weights, config=layers[0] if one else layers)

        @jax.jit  # one program to compile
        def run(variables, inputs, initial):
            if initial is not None:
                initial = interop.carry_from_keras(module, initial[0] if one else initial)
            carry, outputs = module.apply(variables, inputs, mask=mask, initial=initial)
            outputs = interop.outputs_to_keras(
                module, outputs, mask=mask, zero_output_for_mask=zeros
            )
            last = interop.final_output_to_keras(module, carry, mask=mask)
            return interop.carry_to_keras(module, carry), outputs, last

        final, outputs, last = run(variables, case["inputs"], initial)
    case.agree("outputs", outputs, case["outputs"])
    expected = [array for own in case.layers("final") for array in own]
    for i, (array, reference) in enumerate(zip(jax.tree.leaves(final), expected, strict=True)):
        case.agree(f"final {i}", array, reference)
    if not zeros:
        case.agree("final output", last, case["final_output"])
