"""Whole networks, put together from layers; flax modules, and the options that describe them."""

from rnn_jax.models.classifier import ModelConfig, SequenceClassifier, classifier, classifier_rates
from rnn_jax.models.forecaster import Forecaster, ForecasterConfig, forecaster
from rnn_jax.models.language_model import LanguageModel, LanguageModelConfig
from rnn_jax.models.reader import ReaderConfig, SequenceReader, reader
from rnn_jax.models.recurrent import CELLS, RecurrentConfig, WordsConfig, without_rates
from rnn_jax.models.seq2seq import Seq2Seq, Seq2SeqConfig

__all__ = [
    "CELLS",
    "Forecaster",
    "ForecasterConfig",
    "LanguageModel",
    "LanguageModelConfig",
    "ModelConfig",
    "ReaderConfig",
    "RecurrentConfig",
    "Seq2Seq",
    "Seq2SeqConfig",
    "SequenceClassifier",
    "SequenceReader",
    "WordsConfig",
    "classifier",
    "classifier_rates",
    "forecaster",
    "reader",
    "without_rates",
]
