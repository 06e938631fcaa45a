"""What `--sweep` says: which options take which values.

    sweep  = axis { ";" axis }
    axis   = option "=" ( list | range | draw )
    list   = "[" value { "," value } "]"
    range  = integer ".." integer                             both ends are included
    draw   = ( "log" | "uniform" | "int" ) "(" number "," number ")"
    value  = number | true | false | word | "quoted text"

An option is a field of the experiment's config, such as `optimizer.learning_rate`. Lists and ranges
are gone through; draws are taken anew for each configuration: `uniform` evenly, `log` evenly on a
logarithmic scale, `int` from the whole numbers, both ends included.

>>> from rnn_jax.tasks import default_config
>>> parse("model.hidden=[32, 64]; train.seed=0..2", default_config())
(Choice(option='model.hidden', values=(32, 64)), Choice(option='train.seed', values=(0, 1, 2)))
>>> parse("optimizer.learning_rate=log(1e-4, 1e-2)", default_config())
(Draw(option='optimizer.learning_rate', scale='log', low=0.0001, high=0.01),)
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any, NamedTuple, NoReturn

from rnn_jax import config as config_lib
from rnn_jax.config import Config, InputError, nearest

SCALES = ("log", "uniform", "int")
LONGEST = 10_000  # values of a range or list
_SHOWN = 72  # characters of the text around an error

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\.\.|[\[\](),;=]|[^\s\[\](),;="]+)')
_INTEGER = re.compile(r"[+-]?\d+")
_RANGE = re.compile(r"([+-]?\d+)\.\.([+-]?\d+)")


class Choice(NamedTuple):
    """An option and the values that it takes, one after the other."""

    option: str
    values: tuple[Any, ...]


class Draw(NamedTuple):
    """An option whose values are drawn between two bounds, which are included.

    scale: "uniform", "log", or "int" for whole numbers.
    """

    option: str
    scale: str
    low: float
    high: float


Axis = Choice | Draw


def parse(text: str, config: Config) -> tuple[Axis, ...]:
    """The axes of a sweep over options of `config`.

    Args:
      text: as the grammar above says.
      config: the experiment's; its options have types and bounds.

    Raises:
      InputError: the text breaks the grammar, or names an option, type or value that there is not;
        the message has a caret under the place.
    """
    return _Parser(text, config).sweep()


@dataclasses.dataclass
class _Token:
    text: str
    start: int


class _Parser:
    """Recursive descent, a method for each rule."""

    def __init__(self, text: str, config: Config):
        self._text = text.replace("\n", " ").replace("\t", " ")
        self._fields = {name: field for name, field, _ in config_lib.options(config)}
        self._tokens: list[_Token] = []
        position = 0
        while position < len(self._text.rstrip()):
            match = _TOKEN.match(self._text, position)
            if match is None:
                self._fail("a quotation mark that is never closed", self._text.index('"', position))
            self._tokens.append(_Token(match[1], match.start(1)))
            position = match.end()
        self._next = 0

    def sweep(self) -> tuple[Axis, ...]:
        axes: list[Axis] = []
        while True:
            start = self._place()
            axis = self._axis()
            if axis.option in (each.option for each in axes):
                self._fail(f"{axis.option} is there twice", start)
            axes.append(axis)
            if self._peek() is not None:
                self._expect(";", "a semicolon before the next option")
            if self._peek() is None:  # a last semicolon may stand
                return tuple(axes)

    def _axis(self) -> Axis:
        start, name = self._place(), self._word("an option, such as optimizer.learning_rate")
        name = name.removeprefix("--").removeprefix("config.")
        if name not in self._fields:
            self._fail(f"unknown option {name!r}{nearest(name, self._fields)}", start)
        self._expect("=", f"= after {name}")
        token = self._peek()
        if token == "[":
            return Choice(name, self._list(name))
        if token is not None and _RANGE.fullmatch(token):
            return Choice(name, self._range(name))
        if token not in SCALES or self._peek(1) != "(":
            self._fail(
                f"expected values of {name}: a list [1,2], a range 0..4, or "
                f"{', '.join(SCALES[:-1])} or {SCALES[-1]} of two bounds"
            )
        return self._draw(name)

    def _list(self, name: str) -> tuple[Any, ...]:
        self._expect("[", "a list")
        values: list[Any] = []
        while True:
            start = self._place()
            value = self._value(name)
            if value in values:
                self._fail(f"{value!r} is there twice", start)
            values.append(value)
            if self._peek() != ",":
                break
            self._expect(",", "a comma")
        self._expect("]", "a comma or ]")
        return tuple(values)

    def _range(self, name: str) -> tuple[int, ...]:
        start = self._place()
        match = _RANGE.fullmatch(self._word("a range"))
        assert match is not None  # the caller looked
        first, last = int(match[1]), int(match[2])
        if not first <= last:
            self._fail(f"the range must rise, such as {last}..{first}", start)
        if last - first >= LONGEST:
            self._fail(f"a range has at most {LONGEST} values", start)
        for end in (first, last):
            self._check(name, end, start)
        return tuple(range(first, last + 1))

    def _draw(self, name: str) -> Draw:
        begin, scale = self._place(), self._word("a scale")
        kind = type(self._fields[name].default)
        if kind not in (int, float):
            self._fail(f"{name} is no number, so give a list of its values", begin)
        if (kind is int) != (scale == "int"):
            whole = "a whole number, so int(...) draws it" if kind is int else "no whole number"
            self._fail(f"{name} is {whole}", begin)
        self._expect("(", "(")
        place, low = self._place(), self._number(name)
        self._expect(",", "a comma between the two bounds")
        high_place, high = self._place(), self._number(name)
        self._expect(")", ") after the two bounds")
        if not low < high:
            self._fail("the second bound must be above the first", high_place)
        if scale == "log" and not low > 0:
            self._fail("a logarithmic scale needs bounds above 0", place)
        return Draw(name, scale, low, high)

    def _number(self, name: str) -> Any:
        start, value = self._place(), self._value(name)
        if type(value) not in (int, float):
            self._fail("expected a number", start)
        return value

    def _value(self, name: str) -> Any:
        start, word = self._place(), self._word("a value")
        value = _read(word, type(self._fields[name].default))
        self._check(name, value, start)
        return value

    def _check(self, name: str, value: Any, start: int) -> None:
        try:
            config_lib.check_value(name, self._fields[name], value)
        except InputError as error:
            self._fail(str(error).removeprefix("--config."), start)

    def _peek(self, ahead: int = 0) -> str | None:
        place = self._next + ahead
        return self._tokens[place].text if place < len(self._tokens) else None

    def _place(self) -> int:
        if self._next < len(self._tokens):
            return self._tokens[self._next].start
        return len(self._text.rstrip())

    def _word(self, wanted: str) -> str:
        word = self._peek()
        if word is None or word in ("[", "]", "(", ")", ",", ";", "="):
            self._fail(f"expected {wanted}")
        self._next += 1
        return word

    def _expect(self, token: str, wanted: str) -> None:
        if self._peek() != token:
            self._fail(f"expected {wanted}")
        self._next += 1

    def _fail(self, problem: str, place: int | None = None) -> NoReturn:
        place = self._place() if place is None else place
        first = max(0, min(place - _SHOWN // 2, len(self._text) - _SHOWN))
        shown = self._text[first : first + _SHOWN]
        raise InputError(f"--sweep: {problem}", (f"  {shown}", f"  {' ' * (place - first)}^"))


def _read(word: str, kind: type) -> Any:
    """A value as it is written, of a type if it can be that; otherwise what it looks like."""
    if word.startswith('"'):
        try:
            return json.loads(word)
        except ValueError:
            return word
    if kind is bool and word in ("true", "false"):
        return word == "true"
    if kind in (int, float):
        if _INTEGER.fullmatch(word) and len(word) < 30:
            return int(word) if kind is int else float(word)
        try:
            value = float(word)
        except ValueError:
            return word
        return value if math.isfinite(value) else word
    return word
