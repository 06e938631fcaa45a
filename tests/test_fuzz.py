"""Readers of outside files refuse or understand: benchmarks/fuzz.py in short, by hypothesis."""

import functools
import importlib
import pathlib
import random
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))
inputs = importlib.import_module("fuzz_inputs")
READERS = {reader.name: reader for reader in importlib.import_module("fuzz_readers").readers()}
EXAMPLES = {"forged checkpoint": 5, "any file of a checkpoint": 40, "command line": 400}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """`made(name)`: valid inputs, read and check of a reader, with a folder of their own."""
    return functools.cache(lambda name: READERS[name].make(tmp_path_factory.mktemp("reader")))


@pytest.mark.parametrize("name", READERS)
def test_a_reader_refuses_or_understands(made, name):
    reader, (valid, read, check) = READERS[name], made(name)
    for raw in valid:
        check(raw, read(raw))

    @settings(
        max_examples=EXAMPLES.get(name, 150), deadline=5000, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(seed=st.integers(0, 2**32), mutated=st.booleans(), noise=st.binary(max_size=40))
    def attack(seed, mutated, noise):
        source = random.Random(seed)
        if mutated:
            raw = inputs.mutate([*valid, valid[0] + noise], source, as_json=False)
        else:
            raw = inputs.invent(source, reader.keys, reader.flags) if noise else noise
        try:
            value = read(raw)
        except reader.errors:
            return
        check(raw, value)

    attack()


def test_a_file_that_asks_for_memory_is_refused_before_it_gets_any(tmp_path):
    import io
    import zipfile

    from rnn_jax.interop import load_arrays

    header = io.BytesIO()
    description = {"descr": "<f8", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(header, description)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(8))
    with pytest.raises(ValueError, match="not as long as its header says"):
        load_arrays(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(2**22))
    assert path.stat().st_size < 2**13
    with pytest.raises(ValueError, match="larger than 1048576 bytes"):
        load_arrays(path, max_bytes=2**20)


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["nohelp=x"],
        ["noconfig.data.pack=true"],
        ["overwrite=perhaps"],
        ["flagfile=/dev/zero"],
        ["flagfile", "/dev/zero"],
        ["undefok=hiden", "--hiden=3"],
        ["undefok", "hiden", "--hiden=3"],
        ["[" * 5000],  # absl would look for similar names, one call deeper for each character
        ["config.train.epochs=" + "9" * 5000],
        ["a\0b"],
        ["mode=\x1b[31mred"],
        ["\x1b[31mred=3"],
        ["config.model.cell", "--experiment=gru"],
    ],
)
def test_a_flag_that_is_none_is_one_short_line_of_printable_text(launch, dashes, arguments):
    code, out, err = launch("--experiment=bilstm", dashes + arguments[0], *arguments[1:])
    assert (code, out) == (2, "")
    assert err.endswith("\n")
    assert err[:-1].isprintable()
    assert len(err) < 400


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "bilstm.py", "os", "experiments.bilstm", "a\0b", "..", ""]
)
def test_no_experiment_is_imported_from_a_path(launch, name):
    code, _, err = launch(f"--experiment={name}")
    assert code == 2
    assert "unknown experiment" in err
