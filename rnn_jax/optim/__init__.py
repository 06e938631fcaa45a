"""How parameters follow gradients: the optax chain, its numbers, and the updates of tables.

An update of tables is one file, and one row of `rnn_jax.optim.updates.UPDATES`.
"""
