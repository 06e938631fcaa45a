"""PyTorch's word_language_model example: LSTM, tied, SGD with gradients clipped at 0.25."""

from __future__ import annotations

import torch
import windows
from torch import nn


class RNNModel(nn.Module):
    def __init__(self, vocab_size: int, width: int, layers: int):
        super().__init__()
        self.encoder = nn.Embedding(vocab_size, width)
        self.rnn = nn.LSTM(width, width, layers)
        self.decoder = nn.Linear(width, vocab_size)
        self.decoder.weight = self.encoder.weight
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, tokens, hidden):
        output, hidden = self.rnn(self.encoder(tokens), hidden)
        decoded = self.decoder(output).view(-1, self.decoder.out_features)
        return nn.functional.log_softmax(decoded, dim=1), hidden


class Model:
    def __init__(self, job, inputs):
        torch.manual_seed(0)
        torch.set_num_threads(job["threads"])
        self.model = RNNModel(job["vocab_size"], job["width"], job["layers"])
        self.rate, self.clip = 20.0, job["clip_norm"]
        self.best = None
        self.layers, self.width, self.batch = job["layers"], job["width"], inputs.shape[1]
        self.criterion = nn.NLLLoss()

    def start(self):
        zeros = lambda: torch.zeros(self.layers, self.batch, self.width)
        return zeros(), zeros()

    def train(self, inputs, targets):
        self.model.train()
        hidden = self.start()
        for data, wanted in zip(inputs, targets, strict=True):
            data, wanted = (torch.from_numpy(x.T.copy()).long() for x in (data, wanted))
            self.model.zero_grad()
            hidden = tuple(each.detach() for each in hidden)
            output, hidden = self.model(data, hidden)
            loss = self.criterion(output, wanted.reshape(-1))
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            with torch.no_grad():
                for p in self.model.parameters():
                    p.add_(p.grad, alpha=-self.rate)

    def loss(self, inputs, targets):
        self.model.eval()
        hidden, total = self.start(), 0.0
        with torch.no_grad():
            for data, wanted in zip(inputs, targets, strict=True):
                data, wanted = (torch.from_numpy(x.T.copy()).long() for x in (data, wanted))
                output, hidden = self.model(data, hidden)
                total += self.criterion(output, wanted.reshape(-1)).item()
        mean = total / len(inputs)
        if self.best is not None and mean >= self.best:
            self.rate /= 4.0  # as the example anneals
        else:
            self.best = mean
        return mean


if __name__ == "__main__":
    windows.serve(Model)
