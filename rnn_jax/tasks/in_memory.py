"""For tasks whose examples are arrays of one shape, in memory."""

from __future__ import annotations

from typing import Any

from rnn_jax.config import TrainConfig
from rnn_jax.data import arrays, batching
from rnn_jax.tasks.base import Data


def data_of(config: TrainConfig, train: Any, validation: Any, test: Any) -> Data:
    """Three splits as the loop reads them; batches are `rnn_jax.data.arrays.ArrayBatch`.

    Args:
      config: how they are dealt out.
      train, validation, test: pytrees of NumPy arrays [examples, ...].
    """
    return Data(
        digest=arrays.digest(train, validation, test),
        remembered={},
        epochs=arrays.ArrayEpochs(train, batching.dealing(config)),
        validation=arrays.ArrayPass(validation, config.batch_size),
        test=arrays.ArrayPass(test, config.batch_size),
    )
