"""From `OptimizerConfig` to an optax chain. Its order is a contract, and has a test.

gradient -> clip by global norm -> Adam -> decoupled weight decay -> times minus the learning rate
"""

from __future__ import annotations

import optax

from rnn_jax.config import OptimizerConfig


def make(config: OptimizerConfig, total_steps: int) -> optax.GradientTransformation:
    """The optimizer of a run.

    Clipping scales the whole gradient, `g <- g min(1, clip_norm / |g|)` (Pascanu, Mikolov and
    Bengio, "On the difficulty of training recurrent neural networks", ICML 2013), before Adam
    sees it (Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015). Weight decay
    acts on the parameters after Adam's scaling (Loshchilov and Hutter, "Decoupled weight decay
    regularization", ICLR 2019).

    Args:
      config: the numbers.
      total_steps: steps of the whole run; where a decaying schedule ends.

    Returns:
      An optax transformation for gradients of any parameter tree.
    """
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity(),
        optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.epsilon),
        optax.add_decayed_weights(config.weight_decay) if config.weight_decay else optax.identity(),
        optax.scale_by_learning_rate(schedule(config, total_steps)),
    )


def schedule(config: OptimizerConfig, total_steps: int) -> optax.ScalarOrSchedule:
    """The learning rate: a number, or a function of the step (a rise, then flat or cosine)."""
    warmup = min(config.warmup_steps, total_steps)
    rest = {
        "constant": lambda: optax.constant_schedule(config.learning_rate),
        "cosine": lambda: optax.cosine_decay_schedule(
            config.learning_rate, max(total_steps - warmup, 1)
        ),
    }[config.schedule]()
    if not warmup:
        return config.learning_rate if config.schedule == "constant" else rest
    # The first step already moves: its rate is 1/warmup of the full one.
    rise = optax.linear_schedule(
        config.learning_rate / warmup, config.learning_rate, warmup - 1 or 1
    )
    return optax.join_schedules([rise, rest], [warmup])
