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
    initial = interop.carry_from_torch(module, **states(case, "initial", "0"))
    cotangent = interop.carry_from_torch(module, **states(case, "cotangent", "0"))

    lengths = case["lengths"]
    padding = np.arange(case["inputs"].shape[1]) >= lengths[:, None]
    garbage = np.resize(np.array([np.nan, np.inf, -np.inf, 1e30], case.dtype), case["inputs"].shape)
    inputs = np.where(padding[..., None], garbage, case["inputs"])
    # What arrives at outputs in the padding has to be dropped, since these are constant.
    above = case["cotangent/outputs"] + 1e3 * padding[..., None].astype(case.dtype)

    @jax.jit
    def run(variables, inputs, initial, cotangent):
        def forward(variables, inputs, initial):
            return module.apply(variables, inputs, lengths=lengths, initial=initial)

        result, pull_back = jax.vjp(forward, variables, inputs, initial)
        return result, pull_back(cotangent)

    (carry, outputs), gradients = run(variables, inputs, initial, (cotangent, above))
    case.agree("outputs", outputs, case["outputs"])
    agree_states(case, "final", module, carry)

    variables_gradient, inputs_gradient, initial_gradient = gradients
    case.agree("gradient of inputs", inputs_gradient, case["gradient/inputs"])
    agree_states(case, "gradient/initial", module, initial_gradient)
    state_dict = interop.to_torch(module, variables_gradient)
    expected = case.group("gradient/weights")
    assert state_dict.keys() == expected.keys()
    for key, gradient in state_dict.items():
        case.agree(f"gradient of {key}", gradient, expected[key])


def states(case, prefix, suffix=""):
    """The arrays h and c (where there is one) below `prefix`, as keyword arguments."""
    group = case.group(prefix)
    return {state + suffix: group[state] for state in "hc" if state in group}


def agree_states(case, prefix, module, carry):
    h, c = interop.carry_to_torch(module, carry)
    expected = states(case, prefix)
    case.agree(f"{prefix} h", h, expected["h"])
    assert (c is not None) == ("c" in expected)
    if c is not None:
        case.agree(f"{prefix} c", c, expected["c"])
