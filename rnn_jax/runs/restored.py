"""Run folders from their copies in a store: what `rnn_jax.runs.copies` sent, on the disk again."""

from __future__ import annotations

import logging
import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping

from rnn_jax.config import InputError
from rnn_jax.runs import checkpoints, copies
from rnn_jax.runs.checkpoints import DIGESTS, FOLDER, MAX_DIGESTS, MAX_PROGRESS, PROGRESS
from rnn_jax.runs.copies import STAGED, Copied, Layout
from rnn_jax.runs.progress import Progress
from rnn_jax.system import files
from rnn_jax.system.store import Store

log = logging.getLogger(__name__)


def fetch(
    store: Store, sizes: Mapping[str, int], folder: pathlib.Path, layout: Layout
) -> tuple[dict[str, Copied], dict[str, Progress]]:
    """Puts on the disk what the store has and the disk has not: of each run the newest checkpoint
    that is whole, if it is farther than those on the disk, and the files beside it.

    Args:
      store: where from.
      sizes: the bytes of its objects, by name.
      folder: where to; held against other processes.
      layout: which files there are besides checkpoints.

    Returns:
      What the store has of each run, and where the runs stand whose checkpoint was fetched.

    Raises:
      StoreError: the store does not give them.
      InputError: no checkpoint of a run is good, neither here nor there.
      OSError: they cannot be written.
    """
    has = copies.there(sizes)
    try:
        here = {run: _standing(folder / run) for run in has}
        wanted = {run: sorted(copied.whole, reverse=True) for run, copied in has.items()}
        for run in _same(store, sizes, folder, has, here):
            has[run].number = checkpoints.newest_number(folder / run / FOLDER)
            wanted[run] = []
        for run, progress in _peeked(store, sizes, folder, wanted, here).items():
            if _order(here[run]) >= _order(progress):
                wanted[run] = []
        _files(store, sizes, folder, layout, has)  # first: no checkpoint without a config.json
        fetched = _checkpoints(store, sizes, folder, wanted, has, here)
    finally:
        shutil.rmtree(folder / STAGED, ignore_errors=True)
    return has, fetched


def _checkpoints(
    store: Store,
    sizes: Mapping[str, int],
    folder: pathlib.Path,
    wanted: Mapping[str, list[int]],
    has: Mapping[str, Copied],
    here: Mapping[str, Progress | None],
) -> dict[str, Progress]:
    """Fetches the first good one of each run's checkpoints; where the runs stand then."""
    fetched: dict[str, Progress] = {}
    while wanted := {run: numbers for run, numbers in wanted.items() if numbers}:
        names = [name for run, numbers in wanted.items() for name in has[run].objects[numbers[0]]]
        _get(store, sizes, names, folder / STAGED)
        left = {}
        for run, (number, *older) in wanted.items():
            path, target = folder / STAGED / _place(run, number), folder / run / FOLDER
            if problem := checkpoints.verify(path):
                log.warning("checkpoint %s in %s is not used: %s", path.name, store.url, problem)
                if not older and not checkpoints.newest_number(target):
                    raise InputError(
                        f"every checkpoint in {store.url} is damaged, and none is used; put a good "
                        "copy back, choose another --mirror, or begin anew with --overwrite"
                    )
                left[run] = older
                continue
            progress = _progress(store, path / PROGRESS)
            if _order(progress) > _order(here[run]):
                target.mkdir(parents=True, exist_ok=True)
                has[run].number = max(number, checkpoints.next_number(target))
                path.rename(target / f"{has[run].number:06d}")
                files.sync_folder(target)
                fetched[run] = progress
        wanted = left
    return fetched


def _files(
    store: Store,
    sizes: Mapping[str, int],
    folder: pathlib.Path,
    layout: Layout,
    has: dict[str, Copied],
) -> None:
    """Fetches what stands beside checkpoints, where the disk has none of it."""
    wanted = []
    for run, name, first in layout.files(sizes):
        missing = not (folder / run / first).exists()
        has.setdefault(run, Copied()).files[name] = copies.UNKNOWN
        if missing:
            wanted.append((run, name))
    _get(store, sizes, [copies.within(run, name) for run, name in wanted], folder / STAGED)
    for run, name in wanted:
        target = folder / run / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / STAGED / run / name, target)
        has[run].files[name] = copies.sign(target)


def _same(
    store: Store,
    sizes: Mapping[str, int],
    folder: pathlib.Path,
    has: Mapping[str, Copied],
    here: Mapping[str, Progress | None],
) -> list[str]:
    """The runs whose newest checkpoint is the same here and there."""
    both = [run for run in has if here[run] and has[run].whole]
    names = {run: _place(run, max(has[run].whole)) + DIGESTS for run in both}
    _get(store, sizes, names.values(), folder / STAGED)
    found = []
    for run, name in names.items():
        number = checkpoints.newest_number(folder / run / FOLDER)
        own, theirs = folder / _place(run, number) / DIGESTS, folder / STAGED / name
        if files.read_bounded(own, MAX_DIGESTS) == files.read_bounded(theirs, MAX_DIGESTS):
            found.append(run)
    return found


def _peeked(
    store: Store,
    sizes: Mapping[str, int],
    folder: pathlib.Path,
    wanted: Mapping[str, list[int]],
    here: Mapping[str, Progress | None],
) -> dict[str, Progress]:
    """Where runs that are here, too, stand in the store."""
    both = [run for run, numbers in wanted.items() if numbers and here[run]]
    names = {run: _place(run, wanted[run][0]) + PROGRESS for run in both}
    names = {run: name for run, name in names.items() if name in sizes}
    _get(store, sizes, names.values(), folder / STAGED)
    return {run: _progress(store, folder / STAGED / name) for run, name in names.items()}


def _get(store: Store, sizes: Mapping[str, int], names: Iterable[str], into: pathlib.Path) -> None:
    names = [name for name in names if not (into / name).exists()]
    store.get({name: into / name for name in names}, sum(sizes[name] for name in names))


def _place(run: str, number: int) -> str:
    return copies.within(run, f"{FOLDER}/{number:06d}/")


def _standing(run: pathlib.Path) -> Progress | None:
    """Where a run stands on this disk; None if there is nothing good."""
    try:
        found = checkpoints.newest(run / FOLDER, set_aside=True)
    except InputError:
        return None
    return found and found.progress


def _order(progress: Progress | None) -> tuple[bool, int, int]:
    """The farther a run is, the larger."""
    return (progress.finished, progress.epoch, progress.batch) if progress else (False, -1, 0)


def _progress(store: Store, path: pathlib.Path) -> Progress:
    try:
        return Progress.from_json(files.read_bounded(path, MAX_PROGRESS))
    except ValueError as error:
        raise InputError(
            f"{store.url} was not written by this version of rnn_jax ({PROGRESS}: {error}); choose "
            "another --mirror"
        ) from error
