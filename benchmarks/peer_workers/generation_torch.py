"""PyTorch, as its word_language_model example generates: a token a call, the state carried."""

from __future__ import annotations

import asking
import torch
from torch import nn


class Model:
    def __init__(self, job):
        torch.manual_seed(0)
        torch.set_num_threads(job["threads"])
        self.size, self.layers, self.width = job["vocab_size"], job["layers"], job["width"]
        self.encoder = nn.Embedding(self.size, job["vectors"])
        self.rnn = nn.LSTM(job["vectors"], self.width, self.layers)
        self.decoder = nn.Linear(self.width, self.size)
        for each in (self.encoder, self.rnn, self.decoder):
            each.eval()

    def write(self, tokens):
        hidden = (
            torch.zeros(self.layers, 1, self.width),
            torch.zeros(self.layers, 1, self.width),
        )
        word = torch.zeros(1, 1, dtype=torch.long)
        with torch.no_grad():
            for _ in range(tokens):
                output, hidden = self.rnn(self.encoder(word), hidden)
                weights = self.decoder(output).squeeze().div(1.0).softmax(0)
                word.fill_(torch.multinomial(weights, 1)[0])


if __name__ == "__main__":
    asking.serve(Model)
