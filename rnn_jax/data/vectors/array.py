"""Vectors as an array of NumPy, NAME.npy: [words, features]; its words are in NAME.txt, one a
line, in the same order; a byte-order mark before the first one is no part of it."""

from __future__ import annotations

import codecs
import math
import pathlib
import warnings
from collections.abc import Iterator

import numpy as np

from rnn_jax.data.vectors.wanted import Wanted

MAGIC = b"\x93NUMPY"
LONGEST = 2**16  # bytes of a word


def recognises(head: bytes) -> bool:
    """Whether a file that begins so is an array of NumPy."""
    return head.startswith(MAGIC)


def read(path: pathlib.Path, wanted: Wanted) -> None:
    """Looks for the wanted words in NAME.txt, and keeps their rows of NAME.npy.

    Raises:
      InputError: the array is none of vectors, or there are more or fewer words than vectors.
    """
    array = mapped(path, wanted)
    wanted.check_features(array.shape[1], "its shape")
    words = path.with_suffix(".txt")
    count = 0
    listed = Wanted(words, (), wanted.features)  # whose errors name the words' file
    try:
        for count, word in enumerate(_words(words, listed), 1):
            row = wanted.row(word, f"line {count} of {words.name}")
            if row is not None and count <= len(array):
                place = f"row {count - 1} (line {count} of {words.name})"
                wanted.keep(row, array[count - 1], place)
    except FileNotFoundError as error:
        raise wanted.error("its words", f"there is no {words}, with a word a line") from error
    if count != len(array):
        raise wanted.error("its shape", f"{len(array)} vectors, but {words.name} has {count} words")


def _words(path: pathlib.Path, listed: Wanted) -> Iterator[bytes]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST + 1):
            number += 1
            if len(line) > LONGEST:
                raise listed.error(f"line {number}", f"longer than {LONGEST} bytes; a word a line?")
            word = line.removesuffix(b"\n").removesuffix(b"\r")
            yield word.removeprefix(codecs.BOM_UTF8) if number == 1 else word


def mapped(path: pathlib.Path, wanted: Wanted) -> np.ndarray:
    """The array, on the disk.

    Raises:
      InputError: it is none of numbers, or shorter or longer than it says.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a header as Python 2 wrote it
            shape, fortran, dtype = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[np.lib.format.read_magic(file)](file)
            start = file.tell()
    except OSError:
        raise
    except Exception as error:  # a damaged header meets any layer of NumPy's parser
        raise wanted.error(
            "its header", "it is damaged, or not of NumPy's versions 1 or 2"
        ) from error
    whole = all(type(size) is int and size >= 0 for size in shape)
    if len(shape) != 2 or not whole or dtype.kind != "f":
        raise wanted.error(
            "its header", f"shape {shape} of {dtype}, but vectors are [words, features] of floats"
        )
    length, size = start + math.prod(shape) * dtype.itemsize, path.stat().st_size
    if length != size:
        raise wanted.error(
            "its header", f"it says {length} bytes, but the file has {size}; is it whole?"
        )
    if not math.prod(shape):
        raise wanted.error("its header", f"shape {shape} has no numbers")
    return np.memmap(
        path, dtype, mode="r", offset=start, shape=shape, order="F" if fortran else "C"
    )
