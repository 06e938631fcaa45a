"""Outputs, final states and all gradients against PyTorch (recorded by `references/record.py`)."""

import jax
import numpy as np
import pytest
from references.stored import Case, names

from rnn_jax import interop

# float64 shows that the equations agree; float32 adds rounding, which is worst in the deepest.
CASES = [(name, "float64") for name in names("torch")]
CASES += [(name, "float32") for name in names("torch") if "-3-" in name]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_numbers_are_those_of_torch(name, dtype):
    with jax.enable_x64(dtype == "float64"):
        compare(Case("torch", name, dtype))


def compare(case):
    kind = case.config["kind"].removesuffix("_projected")
    module, variables = interop.from_torch(case.group("weights"), kind)
    lengths = case["lengths"]
    padding = (np.arange(case["inputs"].shape[1]) >= lengths[:, None])[..., None]
    garbage = np.resize(np.array([np.nan, np.inf, -np.inf, 1e30], case.dtype), case["inputs"].shape)
    inputs = np.where(padding, garbage, case["inputs"])
    # What arrives at outputs in the padding has to be dropped, since these are constant.
    above = case["cotangent/outputs"] + 1e3 * padding.astype(case.dtype)

    @jax.jit
    def run(variables, inputs, initial, cotangent):
        def forward(variables, inputs, initial):
            initial = interop.carry_from_torch(module, *initial)
            carry, outputs = module.apply(variables, inputs, lengths=lengths, initial=initial)
            return outputs, interop.carry_to_torch(module, carry)

        result, pull_back = jax.vjp(forward, variables, inputs, initial)
        return result, pull_back(cotangent)

    result, gradients = run(
        variables, inputs, states(case, "initial"), (above, states(case, "cotangent"))
    )
    outputs, final = result
    case.agree("outputs", outputs, case["outputs"])
    agree_states(case, "final", final)

    variables_gradient, inputs_gradient, initial_gradient = gradients
    case.agree("gradient of inputs", inputs_gradient, case["gradient/inputs"])
    agree_states(case, "gradient/initial", initial_gradient)
    state_dict = interop.to_torch(module, variables_gradient)
    expected = case.group("gradient/weights")
    assert state_dict.keys() == expected.keys()
    for key, gradient in state_dict.items():
        case.agree(f"gradient of {key}", gradient, expected[key])


def states(case, prefix):
    """PyTorch's h and c below `prefix`; no c where there is none."""
    return case[f"{prefix}/h"], case.get(f"{prefix}/c")


def agree_states(case, prefix, actual):
    for state, array, expected in zip("hc", actual, states(case, prefix), strict=True):
        assert (array is None) == (expected is None)
        if expected is not None:
            case.agree(f"{prefix} {state}", array, expected)
