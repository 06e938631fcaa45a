"""A kernel with a gradient rule of its own: one loop forwards, one backwards, for any device.

`kernel` has the record; `rule` says what it needs to know of a cell, and `lstm`, `gru` and
`simple_rnn` say it. `loop` steps through time, `recurrence` runs all directions over one stretch of
it, `chunked` stretch after stretch; `products` has the products that they share.
"""
