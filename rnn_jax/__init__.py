"""Recurrent neural networks in JAX: exact cells, one `unroll`, and experiments that train them.

What a notebook needs is re-exported here; each name's module says more.
"""

from rnn_jax import interop, train
from rnn_jax.cells import gru, lru, lstm, min_gru, min_lstm, rg_lru, simple_rnn
from rnn_jax.cells.wrappers import learnable_initial, zoneout
from rnn_jax.config import AdamConfig, InputError, OptimizerConfig, TrainConfig, replace
from rnn_jax.data.language.options import LanguageDataConfig
from rnn_jax.data.options import DataConfig
from rnn_jax.data.pairs.options import PairsConfig
from rnn_jax.data.series.options import SeriesConfig
from rnn_jax.inspect import Gates, Importance, LayerGates
from rnn_jax.masking import (
    last_valid,
    lengths_to_mask,
    mask_to_lengths,
    masked_max,
    masked_mean,
)
from rnn_jax.models import (
    ForecasterConfig,
    LanguageModelConfig,
    ModelConfig,
    Seq2SeqConfig,
    SequenceClassifier,
)
from rnn_jax.nn.attention import Attention
from rnn_jax.nn.heads import Head
from rnn_jax.nn.layers import RNN, Bidirectional, Stacked
from rnn_jax.nn.residual import ResidualBlock
from rnn_jax.predict import Prediction, Predictor, load
from rnn_jax.studies.compare import compare
from rnn_jax.studies.comparison import Comparison
from rnn_jax.tasks import (
    AddingConfig,
    ClassificationConfig,
    CopyConfig,
    ForecastingConfig,
    LanguageConfig,
    TranslationConfig,
)
from rnn_jax.tasks.forecasts import Forecast, Forecasts
from rnn_jax.tasks.translator import Alignment, Hypothesis, Translator
from rnn_jax.tasks.writer import Guess, Writer
from rnn_jax.types import Batch, Cell, LSTMState
from rnn_jax.unrolling import step, unroll
from rnn_jax.version import __version__

Config = ClassificationConfig  # its first name, when there was no other task

__all__ = [
    "RNN",
    "AdamConfig",
    "AddingConfig",
    "Alignment",
    "Attention",
    "Batch",
    "Bidirectional",
    "Cell",
    "ClassificationConfig",
    "Comparison",
    "Config",
    "CopyConfig",
    "DataConfig",
    "Forecast",
    "ForecasterConfig",
    "ForecastingConfig",
    "Forecasts",
    "Gates",
    "Guess",
    "Head",
    "Hypothesis",
    "Importance",
    "InputError",
    "LSTMState",
    "LanguageConfig",
    "LanguageDataConfig",
    "LanguageModelConfig",
    "LayerGates",
    "ModelConfig",
    "OptimizerConfig",
    "PairsConfig",
    "Prediction",
    "Predictor",
    "ResidualBlock",
    "Seq2SeqConfig",
    "SequenceClassifier",
    "SeriesConfig",
    "Stacked",
    "TrainConfig",
    "TranslationConfig",
    "Translator",
    "Writer",
    "__version__",
    "compare",
    "gru",
    "interop",
    "last_valid",
    "learnable_initial",
    "lengths_to_mask",
    "load",
    "lru",
    "lstm",
    "mask_to_lengths",
    "masked_max",
    "masked_mean",
    "min_gru",
    "min_lstm",
    "replace",
    "rg_lru",
    "simple_rnn",
    "step",
    "train",
    "unroll",
    "zoneout",
]
