"""Files of named arrays: every type and name comes back, or is refused at writing."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from conversions import identical, refusal, torch_weights

from rnn_jax import interop

NUMPYS = ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
          "float16", "float32", "float64", "longdouble", "complex64", "complex128", "clongdouble",
          ">f4", ">i2", ">c16"]  # fmt: skip


OTHERS = [
    name
    for name, value in vars(ml_dtypes).items()
    if isinstance(value, type) and name not in ("finfo", "iinfo")
]


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@pytest.mark.parametrize("name", [*NUMPYS, *OTHERS])
def test_a_type_comes_back_or_is_refused_at_writing(tmp_path, ending, name):
    if ending == "safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"arrays.{ending}"
    dtype = np.dtype(getattr(ml_dtypes, name) if name in OTHERS else name)
    numbers = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype)
    arrays = {
        "matrix": numbers, "columns": np.asfortranarray(numbers), "strided": numbers[:, ::2],
        "scalar": np.array(numbers[0, 0], dtype), "empty": numbers[:0], "one": numbers[0, :1],
    }  # fmt: skip
    held = name in NUMPYS
    if ending == "safetensors":
        held = name in (*NUMPYS[:12], "complex64", "bfloat16", ">f4", ">i2")
    if not held:
        message = refusal(interop.save_arrays, path, arrays)
        assert message == f"'matrix' has a type that .{ending} cannot hold: {dtype}"
        assert not path.exists()
        return
    interop.save_arrays(path, arrays)
    loaded = interop.load_arrays(path)
    assert list(loaded) == list(arrays) or ending == "safetensors"
    for key, array in arrays.items():
        if ending == "safetensors":  # little-endian, always
            array = array.astype(dtype.newbyteorder("<"))
        assert identical(loaded[key], array), key
        assert loaded[key].flags.writeable


NAMES = [
    "", " ", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "C:\\x", "a/", "a.npy", ".npy",
    "file", "path", "allow_pickle", "self", "args", "kwds", "arrays", "metadata", "metadata__",
    "a\nb", "a\r", "\t", "'", '"', "{}", "%s", "ä", "日本", "\u202e", "a\u0301", "á", "🙂", "\x7f",
    "A", "a", "x" * 60_000,
]  # fmt: skip


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_names_come_back_or_are_refused_at_writing(tmp_path, ending):
    if ending == "safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"arrays.{ending}"
    names = [*NAMES, "__metadata__"] if ending == "npz" else [*NAMES, "a\0b", "x" * 70_000]
    interop.save_arrays(path, {name: np.float32(n) for n, name in enumerate(names)})
    loaded = interop.load_arrays(path)
    assert {name: int(array) for name, array in loaded.items()} == {
        name: n for n, name in enumerate(names)
    }
    refused = {"npz": ["a\0b", "\0", "x" * 70_000], "safetensors": ["__metadata__"]}[ending]
    path.unlink()
    for name in [*refused, "\ud800", 3, None, b"a", ("a",)]:
        message = refusal(interop.save_arrays, path, {"fine": np.ones(2), name: np.ones(2)})
        assert repr(name)[:10] in message
        assert "name" in message
        assert len(message) < 200
        assert not path.exists()
    for wrong in ([np.ones(2)], np.ones(2), None, "a"):
        assert "arrays must be a dictionary" in refusal(interop.save_arrays, path, wrong)
    ragged = [[1.0], [1.0, 2.0]]
    assert "'a' is no array" in refusal(interop.save_arrays, path, {"a": ragged})


def test_numpy_reads_what_is_written(tmp_path):
    path = tmp_path / "arrays.npz"
    arrays = {"file": np.arange(3.0), "allow_pickle": np.float32(2), "a/b": np.zeros((0, 2))}
    interop.save_arrays(path, arrays)
    with np.load(path, allow_pickle=False) as stored:
        assert all(identical(stored[name], array) for name, array in arrays.items())
    first = path.read_bytes()
    interop.save_arrays(path, arrays)
    assert path.read_bytes() == first


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_files_keep_every_bit(tmp_path, ending):
    if ending == "safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"weights.{ending}"
    weights = torch_weights(dtype="float64") | {
        "half": np.arange(6, dtype="float16").reshape(2, 3).T
    }
    interop.save_arrays(path, weights)
    loaded = interop.load_arrays(path)
    assert loaded.keys() == weights.keys()
    assert all(identical(loaded[key], weights[key]) for key in weights)


def test_files_run_no_code(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, weight=np.array([print], dtype=object))
    assert "allow_pickle=False" in refusal(interop.load_arrays, path)
    assert "cannot hold" in refusal(interop.save_arrays, path, {"weight": [print]})
    assert "cannot hold" in refusal(
        interop.save_arrays, path, {"weight": jnp.ones(2, jnp.bfloat16)}
    )
    assert "must end in .npz or .safetensors" in refusal(
        interop.load_arrays, tmp_path / "weights.pt"
    )
