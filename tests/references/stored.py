"""The recorded cases, and what "the same numbers" means."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

import numpy as np

# Largest difference, as a share of the array's largest entry (at least of 1).
TOLERANCES = {"float32": 1e-5, "float64": 1e-11}


@functools.cache
def _archive(peer: str) -> dict[str, dict[str, np.ndarray]]:
    cases = {}
    with np.load(pathlib.Path(__file__).parent / f"{peer}.npz", allow_pickle=False) as file:
        for key in file.files:
            if key != "peer":
                name, entry = key.split("/", 1)
                cases.setdefault(name, {})[entry] = file[key]
    return cases


def names(peer: str) -> list[str]:
    """The recorded cases of "torch" or "keras"."""
    return sorted(_archive(peer))


class Case:
    """One recorded case, its floating arrays in the type given."""

    def __init__(self, peer: str, name: str, dtype: str):
        self.name, self.dtype = name, dtype
        self._entries = _archive(peer)[name]
        self.config: dict[str, Any] = json.loads(str(self._entries["config"]))

    def __getitem__(self, entry: str) -> np.ndarray:
        array = self._entries[entry]
        return array.astype(self.dtype) if array.dtype.kind == "f" else array

    def get(self, entry: str) -> np.ndarray | None:
        """The entry, or None where the case has none of this name."""
        return self[entry] if entry in self._entries else None

    def group(self, prefix: str) -> dict[str, np.ndarray]:
        """The entries below `prefix`, such as "weights", by what follows it."""
        start = prefix + "/"
        return {e.removeprefix(start): self[e] for e in self._entries if e.startswith(start)}

    def layers(self, prefix: str) -> list[list[np.ndarray]]:
        """The entries `prefix/LAYER/INDEX` as a list for each layer."""
        rows: list[list[np.ndarray]] = []
        for key, array in sorted(self.group(prefix).items()):
            if key.endswith("/0"):
                rows.append([])
            rows[-1].append(array)
        return rows

    def agree(self, what: str, actual: Any, expected: np.ndarray) -> None:
        """Fails unless `actual` is `expected` to the tolerance of the case's type."""
        assert_agree(f"{self.name}: {what}", actual, expected, self.dtype)


def assert_agree(what: str, actual: Any, expected: Any, dtype: str) -> None:
    """Fails unless `actual` is of `dtype` and equals `expected` to the tolerance of that type."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == dtype, f"{what}: {actual.dtype}"
    assert actual.shape == expected.shape, f"{what}: {actual.shape}, not {expected.shape}"
    scale = max(1.0, np.abs(expected).max())
    worst = np.abs(actual - expected).max() / scale
    assert worst <= TOLERANCES[dtype], (
        f"{what}: off by {worst:.2e} of {scale:.2e}"
    )  # fails on NaN too
