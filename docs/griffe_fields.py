"""Brings the package's docstrings into the form that the API reference understands.

Records name their fields in lines `name: meaning`, with two spaces before what goes on in the next
line. The reference would run them together to one paragraph: here they become a section. Where
names share a meaning, as in `dtype, param_dtype: ...`, each gets it.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ENTRY = re.compile(r"^(?P<names>[a-z_]\w*(?:,\s+[a-z_]\w*)*): (?P<meaning>.*)$")
BROKEN = re.compile(r"^( *(?:\w+, )*\w+,)\n +((?:\w+, )*\w+: )", flags=re.MULTILINE)
ELSEWHERE = "see the module."  # whose page says it once
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):$", flags=re.MULTILINE)


class Fields(griffe.Extension):
    """Rewrites docstrings before they are parsed."""

    def on_class_instance(self, *, cls: griffe.Class, **_: Any) -> None:
        if cls.docstring is not None:
            cls.docstring.value = with_attributes(cls.docstring.value)

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_examples(with_single_names(obj.docstring.value))


def with_attributes(docstring: str) -> str:
    """A class' docstring with its list of fields as a section.

    Docstrings that have sections, or no such list, stay as they are.

    >>> print(with_attributes("A point.\\n\\nx: to the right,\\n  in metres.\\ny: up.\\n\\nMore."))
    A point.
    <BLANKLINE>
    Attributes:
        x: to the right,
            in metres.
        y: up.
    <BLANKLINE>
    More.
    """
    if SECTION.search(docstring):
        return docstring
    paragraphs = docstring.split("\n\n")
    for place, paragraph in enumerate(paragraphs):
        lines = paragraph.splitlines()
        if lines and ENTRY.match(lines[0]) and all(_belongs(line) for line in lines):
            paragraphs[place] = "\n".join(["Attributes:", *map(_indented, lines)])
    return "\n\n".join(paragraphs)


def with_single_names(docstring: str) -> str:
    """A docstring in whose sections each name has an entry of its own, if it says something.

    >>> print(with_single_names("Args:\\n    one, two: a\\n      number.\\n    three: b."))
    Args:
        one: a
          number.
        two: a
          number.
        three: b.
    """
    lines, made, section, place = BROKEN.sub(r"\1 \2", docstring).splitlines(), [], False, 0
    while place < len(lines):
        line = lines[place]
        place += 1
        if SECTION.match(line):
            section = True
        elif line and not line.startswith(" "):
            section = False
        indent = line[: len(line) - len(line.lstrip())]
        found = ENTRY.match(line.strip()) if section and indent else None
        if not found or "," not in found["names"]:
            made.append(line)
            continue
        rest = []
        while place < len(lines) and lines[place].startswith(indent + " "):
            rest.append(lines[place])
            place += 1
        if found["meaning"] == ELSEWHERE:
            continue
        for name in re.split(r",\s+", found["names"]):
            made += [f"{indent}{name}: {found['meaning']}", *rest]
    return "\n".join(made)


def with_examples(docstring: str) -> str:
    """A docstring whose examples are blocks of code.

    >>> with_examples("Two.\\n\\n>>> 1 + 1\\n2").splitlines()
    ['Two.', '', '```pycon', '>>> 1 + 1', '2', '```']
    """
    made, inside = [], False
    for line in docstring.splitlines():
        if line.startswith(">>>") and not inside:
            made.append("```pycon")
            inside = True
        elif inside and not line:
            made.append("```")
            inside = False
        made.append(line)
    return "\n".join([*made, "```"] if inside else made)


def _belongs(line: str) -> bool:
    return bool(ENTRY.match(line)) or line.startswith("  ")


def _indented(line: str) -> str:
    return f"        {line.strip()}" if line.startswith(" ") else f"    {line}"
