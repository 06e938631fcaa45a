"""What a task is to the rest of the program: records of functions.

A `Kind` is what can be said before any data is known; it is a row of `rnn_jax.tasks.TASKS`, or
comes with an experiment. A `Task` is made of it from a config and the facts. The loop, the run's
folder and the page know no more of a task than what stands here.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from rnn_jax.config import Config
from rnn_jax.optim.tables import Tables
from rnn_jax.system import compilation, programs
from rnn_jax.tasks.metrics import Sums
from rnn_jax.types import AnyArray, Array, Carry, Cell, Params, PRNGKey

Facts = Mapping[str, Any]  # what of the data a model must know, such as classes; plain JSON
Record = Mapping[str, Any]  # a line of metrics.jsonl
Say = Callable[[str], None]  # told in a line when something takes long
# (params, (params) -> outputs [examples, ...] of the validation split, that split) -> params
Calibrate = Callable[[Params, Callable[[Params], np.ndarray], Any], Params]
Cells = Mapping[str, Callable[[Any], Cell]]  # name -> (the config's model section) -> cell

NOTHING: Mapping[str, Any] = types.MappingProxyType({})
MODES = ("train", "summary", "evaluate", "predict")


class TaskBatch(Protocol):
    """What is known here of a batch: a pytree of arrays, made and read by the task."""

    @property
    def weights(self) -> AnyArray:
        """float32[batch]; 1 for an example, or what it counts in the loss, above 0; 0 for one that
        only fills the shape."""
        ...

    @property
    def segments(self) -> AnyArray | None:
        """Of packed sequences, as in `rnn_jax.types.Batch`; otherwise None."""
        ...


class Window(Protocol):
    """A part of an epoch that is in memory, and the batches that are made of it."""

    @property
    def start(self) -> int:
        """Batches of the epoch that come before it."""
        ...

    def runs(self, position: int, longest: int) -> Iterator[Sequence[Any]]:
        """From the epoch's batch number `position` on: entries of one shape, at most `longest`."""
        ...

    def assemble(self, entries: Any) -> TaskBatch:
        """The batches of entries that this window's `runs` gave, with an axis of `steps_per_call`
        in front."""
        ...

    def batch(self, position: int) -> TaskBatch:
        """The epoch's batch number `position`."""
        ...

    def shown(self, position: int) -> dict[str, Any]:
        """That batch as people read it, for failure.json; "examples" are their numbers."""
        ...


class Epochs(Protocol):
    """The training split, as batches, epoch after epoch; a pure function of its arguments."""

    @property
    def examples(self) -> int:
        """Of an epoch."""
        ...

    @property
    def batches(self) -> int:
        """Of an epoch; a step each."""
        ...

    def windows(self, epoch: int, position: int) -> Generator[Window, None, None]:
        """An epoch's windows, from the one that holds its batch number `position` on; closed by who
        asked for them."""
        ...

    def window_at(self, epoch: int, position: int) -> Window:
        """The window that holds an epoch's batch number `position`, made anew."""
        ...


class Pass(Protocol):
    """A split, read once from its beginning to its end."""

    @property
    def examples(self) -> int: ...

    def batches(self) -> Iterator[tuple[TaskBatch, np.ndarray]]:
        """Yields (batch, members): which examples it holds, int64[n]."""
        ...

    def shown(self, members: np.ndarray) -> dict[str, Any]:
        """Some examples as people read them, for failure.json."""
        ...


class Held(NamedTuple):
    """Parameters that training leaves as they are, at first or for good.

    marks: a tree like the parameters, true at them.
    epochs: for how many. Meanwhile the optimizer goes on as if they were learned: their gradients
      count in the norm that clips and in Adam's means, so that the first steps that move them are
      of the usual size. None for all epochs; they have no gradient then.
    """

    marks: Params
    epochs: int | None


class Data(NamedTuple):
    """A task's data, ready to be trained on.

    digest: SHA-256 of all that a run's numbers depend on.
    remembered: file name -> text, what those who use the run need of it, such as the vocabulary; it
      is kept in the run's folder and in every checkpoint.
    start: `(params) -> params`, the parameters before the first step, from those that `Task.init`
      drew; for what the data says of them, such as vectors of words.
    sections: what the report says of the data, beside the task's own sections.
    """

    digest: str
    remembered: dict[str, str]
    epochs: Epochs
    validation: Pass
    test: Pass
    start: Callable[[Params], Params] = lambda params: params
    sections: Sequence[Any] = ()


class Resolved(NamedTuple):
    """A config in which every choice is made that depends on this machine.

    environment: what was chosen, by name; recorded with the run, which keeps to it.
    said: a line for each choice.
    reasons: lines for those who ask why.
    """

    config: Any
    environment: dict[str, str]
    said: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def choose_nothing(
    config: Any, cells: Cells, environment: Mapping[str, Any], strict: bool
) -> Resolved:
    """`Kind.resolve` of a task that depends on no machine."""
    del cells, environment, strict
    return Resolved(config, {})


class Tested(NamedTuple):
    """What a run's report is made of.

    outputs: [examples, ...], what `evaluate` said of the test split, in the examples' order.
    data: the run's.
    params: the best parameters.
    history: the records of metrics.jsonl.
    say: `(pass) -> outputs`, what `evaluate` says of each example of another pass with them.
    """

    outputs: np.ndarray
    data: Data
    params: Params
    history: Sequence[Record]
    say: Callable[[Pass], list[np.ndarray]]


class Trained(NamedTuple):
    """A run's best parameters, and what is needed to use them.

    remembered: as `Data.remembered`.
    environment: where it last went on, with the choices made there.
    step, epoch: when the run was last saved, and in which epoch the parameters were found.
    """

    config: Any
    task: Task
    params: Params
    remembered: dict[str, str]
    environment: dict[str, Any]
    step: int
    epoch: int


class Explanation(NamedTuple):
    """What a run makes of one text, as a page.

    said: lines for the terminal, the first of which says what the run makes of it.
    story, tiles, sections, warnings: as for `rnn_jax.report.draw`.
    """

    said: Sequence[str]
    story: Sequence[str]
    tiles: Sequence[Any]
    sections: Sequence[Any]
    warnings: Sequence[str] = ()


class Kind(NamedTuple):
    """A kind of task.

    config: the class of its configs, whose `task` is its name.
    make: `(resolved config, facts, cells) -> Task`.
    noun: what a run of it is, such as "a classifier".
    facts: `(config) -> facts`, found without reading more of the data than necessary.
    read_facts: `(what JSON gave) -> facts`; raises ValueError if they are no such facts.
    resolve: `(config, cells, environment, strict) -> Resolved`; `rnn_jax.tasks.resolve` says what
      they mean. Raises InputError for a config that cannot be run.
    remembers: names of the files that `Data.remembered` may have.
    modes: what the program can do with it.
    """

    config: type[Config]
    make: Callable[[Any, Facts, Cells], Task]
    noun: str = "a run of a task of its own"
    facts: Callable[[Any], Facts] = lambda config: NOTHING
    read_facts: Callable[[Any], Facts] = dict
    resolve: Callable[[Any, Cells, Mapping[str, Any], bool], Resolved] = choose_nothing
    remembers: tuple[str, ...] = ()
    modes: tuple[str, ...] = MODES


class Task(NamedTuple):
    """A task, made.

    init: `(key) -> params`.
    loss: `(params, carry, batch, key, rates) -> (loss, (carry, sums))`; the batch's mean loss, what
      the next batch begins with (of the same structure and shapes), and what is measured on the
      way. No gradient goes back into the batch before.
    evaluate: `(params, carry, batch) -> (carry, sums, outputs)`, without noise; outputs are arrays
      [batch, ...].
    sums: names, shapes and dtypes of the sums.
    means: `(sums) -> {"loss": ..., ...}`, the figures that metrics.jsonl and the log show.
    prepare: `(say, remembered) -> Data`; with what an earlier preparation remembered it need not be
      found again. Raises InputError.
    test: `(remembered) -> Pass`, the test split alone, as it is now. Raises InputError.
    result: `(record) -> str`, the test's record as the program's last line.
    predictor: `(trained) -> predictor`, what a notebook gets from `rnn_jax.load`.
    answer: `(predictor, text) -> JSON`, what `--mode=predict` prints.
    key: a hashable value. Tasks of equal keys have the same `init`, `initial_carry`, `loss`,
      `evaluate` and `tables`, so that programs compiled for one serve the others; what those
      functions do not compute with (names of classes, `rates`) is no part of it. None is equal to
      nothing. Who replaces one of these functions replaces the key.
    facts: those it was made from.
    initial_carry: `() -> carry`, what the first batch of an epoch or a pass begins with; a pytree
      of arrays that are finite, or None for batches that know nothing of each other.
    rates: of the loss' noise, a pytree of arrays (None: off) that the loop hands to `loss`; so they
      are no constants of a compiled program.
    tables: parameters that may be given in part; None if there are none.
    held: parameters that are not learned, at first or for good; whether there are some, and whether
      for good, is a part of the key.
    weight: `(batch) -> number`, what a batch's loss is a mean over, where it is no plain mean over
      examples; with it the losses of a batch's parts make that of the whole.
    flow: names at the top of the parameters' tree, in the order in which data flows through them.
    counts: those sums that are shown as they are.
    examples: what people call the examples, while they are counted.
    headline: the means that stand in an epoch's line; all if there are none.
    told: those means that stand in a line of their own below it.
    details: `(outputs, test) -> lines`, what `--mode=evaluate` prints above the result.
    warnings: `(outputs, test) -> lines`, what there is to warn of after the test.
    calibrate: `(params, say, validation) -> params`, what the best parameters become before they
      are tested and kept, for what is found on the validation split and not by steps, such as how
      wide intervals must be; `say(params)` is what `evaluate` says of each of its examples. Called
      again with what it returned, it must return the same. None for nothing.
    shown: `(params, remembered) -> texts by name`, what is shown of each epoch, kept in its
      validation record as "shown"; None for nothing.
    sections: `(tested) -> report sections`.
    explain: `(predictor, text) -> Explanation`, what `--mode=explain` shows, for kinds that have
      this mode. Raises ValueError for a text that it cannot be asked of.
    onwards: `(predictor, file) -> JSON objects`, what `--mode=predict` prints without a text, for
      tasks whose data goes on: what comes after its end, or after that of a file (a path, or
      None). Raises InputError.
    """

    init: Callable[[PRNGKey], Params]
    loss: Callable[[Params, Carry, Any, PRNGKey, Any], tuple[Array, tuple[Carry, Sums]]]
    evaluate: Callable[[Params, Carry, Any], tuple[Carry, Sums, Array]]
    sums: Any
    means: Callable[[dict[str, Any]], dict[str, float]]
    prepare: Callable[[Say, Mapping[str, str] | None], Data]
    test: Callable[[Mapping[str, str]], Pass]
    result: Callable[[Record], str]
    predictor: Callable[[Trained], Any]
    answer: Callable[[Any, str], dict[str, Any]]
    key: Hashable = None
    facts: Facts = NOTHING
    initial_carry: Callable[[], Carry] = lambda: None
    rates: Any = None
    tables: Tables | None = None
    held: Held | None = None
    weight: Callable[[Any], AnyArray] = lambda batch: batch.weights.sum()
    flow: tuple[str, ...] = ()
    counts: tuple[str, ...] = ("examples",)
    examples: str = "examples"
    headline: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    details: Callable[[np.ndarray, Any], Sequence[str]] = lambda outputs, test: ()
    warnings: Callable[[np.ndarray, Any], Sequence[str]] = lambda outputs, test: ()
    calibrate: Calibrate | None = None
    shown: Callable[[Params, Mapping[str, str]], dict[str, str] | None] = (
        lambda params, remembered: None
    )
    sections: Callable[[Tested], list[Any]] = lambda tested: []
    explain: Callable[[Any, str], Explanation] | None = None
    onwards: Callable[[Any, str | None], Iterator[dict[str, Any]]] | None = None


# (params, carry, batch) -> (carry, sums, outputs)
Evaluate = Callable[[Params, Carry, TaskBatch], tuple[Carry, Sums, Array]]


@programs.shared
def compiled(task: Task) -> Evaluate:
    """The task's `evaluate`, compiled: the same for all tasks of one key."""
    return jax.jit(task.evaluate, compiler_options=compilation.options(compilation.THOROUGH))


def outputs_in_order(
    task: Task,
    params: Params,
    split: Pass,
    after: Callable[[Sums, int], None] = lambda sums, examples: None,
    evaluate: Evaluate | None = None,
) -> list[np.ndarray]:
    """What a model says of every example of a split, in the examples' order.

    Args:
      task: the task.
      params: the parameters.
      split: what to read.
      after: called after each batch with its sums and how many examples it held; may raise.
      evaluate: who computes the task's `evaluate`; by default this process' first device.
    """
    outputs: list[Any] = [None] * split.examples
    evaluate, carry = evaluate or compiled(task), task.initial_carry()
    for batch, members in split.batches():
        carry, sums, found = evaluate(params, carry, batch)
        for member, output in zip(members, np.asarray(found), strict=False):
            outputs[member] = output
        after(sums, len(members))
    return outputs
