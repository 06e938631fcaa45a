"""flax.linen modules: they own parameters, and nothing else. Layers, heads, dropout, segments."""
