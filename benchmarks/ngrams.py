"""What n-gram models say of the text that a language model is tested on, as yardsticks.

    python benchmarks/ngrams.py
    python benchmarks/ngrams.py --runs runs/language_model runs/language_model_large

With `--runs` the trained models of those folders have rows, too. They must have been trained on the
tokens that the experiment `language_model` reads.
"""

from __future__ import annotations

import argparse
import time

import record

from rnn_jax import LanguageDataConfig, ngrams
from rnn_jax.data.language import preparation
from rnn_jax.data.language.vocabulary import END
from rnn_jax.tasks import language_report
from rnn_jax.train import evaluate, opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", nargs="*", default=(), help="folders of language models")
    record.add_flag(parser)
    arguments = parser.parse_args()
    columns = [("model", "{}"), ("perplexity", "{:.2f}"), ("bits per character", "{:.3f}")]
    table = record.Table("ngrams", [*columns, ("share of Kneser-Ney 5-grams'", "{:.2f}")])
    data = preparation.prepare(LanguageDataConfig())
    train, validation, test = (stream.stories() for stream in data[1:])
    began = time.perf_counter()
    found = ngrams.yardsticks(train, validation, test, len(data.vocabulary), END)
    print(f"fitted and tuned in {time.perf_counter() - began:.1f} s; {len(data.test)} tokens")
    five = language_report.figures(dict(found)["Kneser-Ney 5-grams"], data.test)["perplexity"]
    for name, logs in found:
        said = language_report.figures(logs, data.test)
        table.add(name, said["perplexity"], said["bits_per_character"], said["perplexity"] / five)
    for path in arguments.runs:
        run = opened.open_run(path)
        tested, _ = evaluate.evaluate_test(run)
        if tested["tokens"] != len(data.test):
            parser.error(f"{path} was trained on other tokens")
        perplexity = tested["perplexity"]
        name = f"`{run.config.experiment}`"
        table.add(name, perplexity, tested["bits_per_character"], perplexity / five)
    if arguments.save:
        table.save()


if __name__ == "__main__":
    main()
