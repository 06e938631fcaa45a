"""Records what Keras' TextVectorization makes of hard texts, for test_text.py to compare with.

    pip install tensorflow-cpu keras && python tests/references/record_text.py

Each case in text.json has `fit` (the texts that the vocabulary is fitted on), `texts`, `tokens`,
`vocab_size`, and Keras' answers: `vocabulary` and `ids` (a row a text, without padding).
"""

from __future__ import annotations

import json
import pathlib

import keras

HARD = [
    "",
    "!!! ... ---",
    "The cat's hat; THE CAT'S HAT!",
    "état ÉTAT École école",
    "cafe\u0301 café CAFÉ",  # combining against composed
    "no\u00a0break\u00a0space, thin\u2009space and\u3000ideographic",
    "vertical\vtab form\ffeed carriage\rreturn new\nline",
    "file\x1cgroup\x1drecord\x1eunit\x1fnext\x85line\u2028end",
    "zero\u200bwidth soft\u00adhyphen \ufeffmark",
    "“quoted” — dash… £5m €3 100% a_b a-b a.b it's",
    "naïve İstanbul straße ſ K Å",  # noqa: RUF001
    "日本語 テキスト 한국어 עברית العربية",
    "😀 👩\u200d👩\u200d👧 🇫🇷",
    "  leading and trailing  ",
    "a" * 1000,
    "word " * 300,
    "<b>mark</b> &lt;up&gt; http://example.org/?q=1&r=[2] \\n `x` ~ ^ {y|z}",
    "b a d c b a d c e é z É",
    "ta tb tc tc tb ta ü ú ÿ ā",
    "bell\x07 delete\x7f escape\x1b[1m",
]

CASES = [
    {"fit": HARD, "texts": HARD, "tokens": "words", "vocab_size": 20_000},
    {"fit": HARD, "texts": HARD, "tokens": "words", "vocab_size": 30},
    {"fit": HARD[:4], "texts": HARD, "tokens": "words", "vocab_size": 3},
    {"fit": HARD, "texts": HARD, "tokens": "characters", "vocab_size": 20_000},
    {"fit": HARD[:5], "texts": HARD, "tokens": "characters", "vocab_size": 12},
]


def answer(case: dict) -> dict:
    """The case with Keras' vocabulary and ids."""
    split = {"words": "whitespace", "characters": "character"}[case["tokens"]]
    layer = keras.layers.TextVectorization(max_tokens=case["vocab_size"], split=split)
    layer.adapt(case["fit"])
    ids = [[int(index) for index in layer([text])[0] if index] for text in case["texts"]]
    return case | {"vocabulary": layer.get_vocabulary(), "ids": ids}


if __name__ == "__main__":
    record = {"keras": keras.__version__, "cases": [answer(case) for case in CASES]}
    path = pathlib.Path(__file__).with_name("text.json")
    path.write_text(json.dumps(record, separators=(",", ":")) + "\n")
