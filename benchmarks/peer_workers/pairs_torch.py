"""PyTorch: an encoder-decoder with attention, as its documentation puts the pieces together.

The encoder reads packed rows. All steps of an answer are computed in one call of each layer, which
is faster than the step by step of PyTorch's translation tutorial.
"""

from __future__ import annotations

import torch
import windows
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


class Seq2Seq(nn.Module):
    def __init__(self, inputs, outputs, width, embedding_size):
        super().__init__()
        self.reading = nn.Embedding(inputs, embedding_size, padding_idx=0)
        self.writing = nn.Embedding(outputs, embedding_size)
        self.encoder = nn.LSTM(embedding_size, width, batch_first=True, bidirectional=True)
        self.lower = nn.LSTM(embedding_size, width, batch_first=True)
        self.upper = nn.LSTM(3 * width, width, batch_first=True)
        # The two states of each of the decoder's layers.
        self.bridges = nn.ModuleList([nn.Linear(2 * width, width) for _ in range(4)])
        self.key = nn.Linear(2 * width, width, bias=False)
        self.query = nn.Linear(width, width, bias=False)
        self.join = nn.Linear(3 * width, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, texts, before):
        mask = texts != 0
        lengths = mask.sum(1)
        packed = pack_padded_sequence(
            self.reading(texts), lengths.clamp(min=1), batch_first=True, enforce_sorted=False
        )
        outputs, (last, _) = self.encoder(packed)
        values, _ = pad_packed_sequence(outputs, batch_first=True, total_length=texts.shape[1])
        features = torch.cat([last[0], last[1]], dim=1)
        states = [torch.tanh(bridge(features))[None] for bridge in self.bridges]
        asking, _ = self.lower(self.writing(before), (states[0], states[1]))
        keys = self.key(values)
        scores = self.query(asking) @ keys.transpose(1, 2) / keys.shape[-1] ** 0.5
        weights = scores.masked_fill(~mask[:, None], -1e9).softmax(-1)
        context = weights @ values
        above, _ = self.upper(torch.cat([asking, context], -1), (states[2], states[3]))
        return self.head(torch.tanh(self.join(torch.cat([above, context], -1))))


class Model:
    def __init__(self, job, inputs):
        torch.manual_seed(0)
        torch.set_num_threads(job["threads"])
        self.model = Seq2Seq(job["inputs"], job["outputs"], job["width"], job["embedding_size"])
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=job["learning_rate"])
        self.clip, self.end = job["clip_norm"], job["end"]
        self.criterion = nn.CrossEntropyLoss(ignore_index=0)

    def of(self, texts, answers):
        texts, answers = (torch.from_numpy(part).long() for part in (texts, answers))
        before = nn.functional.pad(answers[:, :-1], (1, 0), value=self.end)
        logits = self.model(texts, before)
        return self.criterion(logits.flatten(0, 1), answers.flatten())

    def train(self, inputs, targets):
        self.model.train()
        for texts, answers in zip(inputs, targets, strict=True):
            self.optimizer.zero_grad()
            self.of(texts, answers).backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()

    def loss(self, inputs, targets):
        self.model.eval()
        with torch.no_grad():
            losses = [
                self.of(texts, answers).item()
                for texts, answers in zip(inputs, targets, strict=True)
            ]
        return sum(losses) / len(losses)


if __name__ == "__main__":
    windows.serve(Model, windows.pairs)
