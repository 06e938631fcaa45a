"""Copies of run folders in a store: what goes there, and in which order.

In the store a folder has the same names as on the disk: each run's newest checkpoints, and the
files that are made from them. A checkpoint's digests.json goes last, and is the first to be
removed: a checkpoint that has one is whole, another does not count. None is ever written over: it
gets a number higher than all that are there, whatever its number on the disk is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from rnn_jax.runs import checkpoints
from rnn_jax.runs.checkpoints import DIGESTS, FOLDER
from rnn_jax.system.store import Store

STAGED = ".mirror"  # in the folder: what is on its way to the store, or back
KEEP = 2  # whole checkpoints of a run in the store
ATTEMPTS = 10  # to get hold of a checkpoint before newer ones take its place

UNKNOWN = (-1, -1)  # of a file in the store: another than the one on the disk, for all we know

_CHECKPOINT = re.compile(rf"(?:(.+)/)?{FOLDER}/(\d{{6,12}})/(.+)")


class Layout(NamedTuple):
    """What of a folder goes to a store.

    of: what is in the folder, "run" or "sweep".
    says: the name of the file that says which one.
    top: files and folders of the folder itself, besides checkpoints.
    below: those of the runs in it.
    runs: the folder in it that holds these, if there are any.
    """

    of: str
    says: str
    top: tuple[str, ...]
    below: tuple[str, ...] = ()
    runs: str = ""

    def of_run(self, run: str) -> tuple[str, ...]:
        """The files and folders of a run, "" for the folder itself."""
        return self.below if run else self.top

    def files(self, names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        """Those among the names of objects, as (run, name in its folder, the first part of it)."""
        for name in names:
            parts = name.split("/")
            if parts[0] in self.top:
                yield "", name, parts[0]
            elif len(parts) > 2 and parts[0] == self.runs and parts[2] in self.below:
                yield "/".join(parts[:2]), "/".join(parts[2:]), parts[2]

    def inside(self, folder: pathlib.Path) -> set[str]:
        """The runs in a folder on the disk."""
        runs = folder / self.runs
        if not self.runs or not runs.is_dir():
            return set()
        return {f"{self.runs}/{path.name}" for path in runs.iterdir() if path.is_dir()}


@dataclasses.dataclass
class Copied:
    """What the store has of one run.

    number: of the checkpoint on the disk whose copy is the newest there; 0: none.
    objects: the checkpoints there, number -> names of their objects.
    whole: numbers of those that are whole.
    files: name -> what told the file on the disk that was copied last from others.
    """

    number: int = 0
    objects: dict[int, list[str]] = dataclasses.field(default_factory=dict)
    whole: set[int] = dataclasses.field(default_factory=set)
    files: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


def there(names: Iterable[str]) -> dict[str, Copied]:
    """The checkpoints that a store has, by run, from the names of its objects."""
    found: dict[str, Copied] = {}
    for name in names:
        if match := _CHECKPOINT.fullmatch(name):
            copied = found.setdefault(match[1] or "", Copied())
            copied.objects.setdefault(int(match[2]), []).append(name)
            if match[3] == DIGESTS:
                copied.whole.add(int(match[2]))
    return found


def send(
    store: Store,
    folder: pathlib.Path,
    layout: Layout,
    runs: Iterable[str],
    due: Collection[str],
    has: dict[str, Copied],
    first: Callable[[], None] = lambda: None,
) -> None:
    """Brings the copies of runs up to date.

    Args:
      store: where to.
      folder: what is copied.
      layout: what of it.
      runs: those that may have a new checkpoint, "" for the folder itself.
      due: those whose other files are sent even if they have none.
      has: what the store has; brought up to date.
      first: called before anything is sent, if anything is.

    Raises:
      StoreError: it could not be done. What was whole in the store still is.
      OSError: the disk is full, say.
    """
    staged = folder / STAGED
    shutil.rmtree(staged, ignore_errors=True)  # of a process that was killed
    arrays: dict[str, pathlib.Path] = {}
    digests: dict[str, pathlib.Path] = {}
    files: dict[str, pathlib.Path] = {}
    sent: dict[str, tuple[int, int, list[str]]] = {}
    signs: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        for run in runs:
            copied = has.setdefault(run, Copied())
            number, held = _hold(folder / run / FOLDER, staged / run / FOLDER, copied.number)
            if held:
                above = max([number, *(each + 1 for each in copied.objects)])
                begin = within(run, f"{FOLDER}/{above:06d}/")
                sent[run] = (number, above, [begin + name for name in held])
                digests[begin + DIGESTS] = held.pop(DIGESTS)
                arrays |= {begin + name: path for name, path in held.items()}
        for run in {*due, *sent, *([""] if sent else [])}:
            copied = has.setdefault(run, Copied())
            signs[run] = dict(_signs(folder / run, layout.of_run(run)))
            for name, now in signs[run].items():
                copy = staged / run / name
                if copied.files.get(name) != now and _copy(folder / run / name, copy):
                    files[within(run, name)] = copy
        gone = [
            within(run, name)
            for run, present in signs.items()
            for name in set(has[run].files) - set(present)
        ]
        if not (digests or files or gone):
            return
        first()
        for run, (_, above, names) in sent.items():
            has[run].objects[above] = names  # a part of them, should it end here
        store.put(arrays | files)  # so that there is a config.json before there is a checkpoint
        store.put(digests)
        for run, (number, above, _) in sent.items():
            has[run].number = number
            has[run].whole.add(above)
        store.remove(gone)
        for run, present in signs.items():
            has[run].files = present
        remove(store, dict.fromkeys(sent, KEEP), has)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def remove(store: Store, keep: Mapping[str, int], has: Mapping[str, Copied]) -> None:
    """Removes all but the newest checkpoints of runs, and what is not whole.

    Args:
      store: where from.
      keep: how many whole ones stay, by run.
      has: what the store has; brought up to date.
    """
    old = []
    for run, count in keep.items():
        stays = sorted(has[run].whole, reverse=True)[:count]
        old += [(run, number) for number in has[run].objects if number not in stays]
    names = [name for run, number in old for name in has[run].objects[number]]
    # What is half removed must not look whole.
    store.remove(name for name in names if name.endswith("/" + DIGESTS))
    store.remove(name for name in names if not name.endswith("/" + DIGESTS))
    for run, number in old:
        has[run].objects.pop(number)
        has[run].whole.discard(number)


def within(run: str, name: str) -> str:
    """The name in the store of what is `name` in a run's folder."""
    return f"{run}/{name}" if run else name


def _hold(
    folder: pathlib.Path, into: pathlib.Path, known: int
) -> tuple[int, dict[str, pathlib.Path]]:
    """Number and files of the newest complete checkpoint, if it is another than the one that is
    known; held under names of our own, since the run removes old ones."""
    for _ in range(ATTEMPTS):
        number = checkpoints.newest_number(folder)
        if number == known or not number:
            return known, {}
        source = folder / f"{number:06d}"
        shutil.rmtree(into, ignore_errors=True)
        try:
            names = [path.relative_to(source) for path in source.rglob("*") if path.is_file()]
            for name in names:
                (into / name).parent.mkdir(parents=True, exist_ok=True)
                _link(source / name, into / name)
        except FileNotFoundError:
            continue  # a newer one has taken its place
        if (into / DIGESTS).exists():
            return number, {name.as_posix(): into / name for name in names}
    return known, {}


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # not every file system has links
        shutil.copyfile(source, target)


def _copy(source: pathlib.Path, target: pathlib.Path) -> bool:
    """Copies a file, since others are written on; whether it was still there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        return False
    return True


def _signs(run: pathlib.Path, names: Iterable[str]) -> Iterator[tuple[str, tuple[int, int]]]:
    """What tells each of some files, and of those in some folders, from how it was before."""
    for name in names:
        path = run / name
        for file in path.rglob("*") if path.is_dir() else (path,):
            if file.is_file() and not file.is_symlink():
                with contextlib.suppress(FileNotFoundError):
                    yield file.relative_to(run).as_posix(), sign(file)


def sign(path: pathlib.Path) -> tuple[int, int]:
    """What tells a file from how it was before."""
    said = path.lstat()
    return said.st_mtime_ns, said.st_size
