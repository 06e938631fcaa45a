"""Vectors of words from files: word2vec's text and binary formats, GloVe's text, NumPy arrays.

Files are read from their beginning to their end, and only what the vocabulary asks for is kept. A
format is one file, and one row of `rnn_jax.data.vectors.reading.FORMATS`.
"""
