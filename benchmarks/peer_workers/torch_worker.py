"""Trains with PyTorch: a worker of `epoch.py`.

documentation: a `DataLoader` that shuffles and pads each batch to its longest text; packed
  sequences where the model skips padding; `Adam` as it is.
buckets: rnn_jax's batches as ready-made tensors, rows sorted by length; packed only where the
  result needs it (both directions); fused `Adam`.
sparse: as buckets, with a sparse gradient of the embedding and `SparseAdam` for it.
"""

from __future__ import annotations

import numpy as np
import serving
import torch
from torch import nn
from torch.nn.utils import rnn as packing

LAYERS = {"simple_rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Classifier(nn.Module):
    def __init__(self, job: serving.Job):
        super().__init__()
        model = job.model
        self.masked, self.pooling = model["masked"], model["pooling"]
        self.sorted = not job.own_batches
        self.packed = self.masked and (job.own_batches or model["bidirectional"])
        self.embedding = nn.Embedding(
            job.vocab_size, model["embedding_size"], sparse=job.variant == "sparse"
        )
        self.rnn = LAYERS[model["cell"]](
            model["embedding_size"],
            model["hidden"],
            num_layers=model["layers"],
            bidirectional=model["bidirectional"],
            batch_first=True,
        )
        directions = 2 if model["bidirectional"] else 1
        self.head = nn.Linear(directions * model["hidden"], job.classes)
        self._initialize(model["hidden"])

    @torch.no_grad()
    def _initialize(self, hidden: int) -> None:
        """As Keras, so that accuracies may be compared."""
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        for name, parameter in self.rnn.named_parameters():
            if name.startswith("weight_ih"):
                nn.init.xavier_uniform_(parameter)
            elif name.startswith("weight_hh"):
                nn.init.orthogonal_(parameter)  # all gates together
            else:
                nn.init.zeros_(parameter)
                if isinstance(self.rnn, nn.LSTM) and name.startswith("bias_ih"):
                    parameter[hidden : 2 * hidden] = 1  # the forget gate's

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """int64[batch, time], int64[batch] -> float32[batch, classes]."""
        inputs = self.embedding(tokens)
        if self.packed:
            inputs = packing.pack_padded_sequence(
                inputs, lengths, batch_first=True, enforce_sorted=self.sorted
            )
        outputs, state = self.rnn(inputs)
        if self.packed and self.pooling != "last":
            outputs, _ = packing.pad_packed_sequence(outputs, batch_first=True)
        return self.head(self._pool(outputs, state, lengths))

    def _pool(self, outputs, state, lengths: torch.Tensor) -> torch.Tensor:
        if self.pooling == "last":
            if self.masked and not self.packed:
                return outputs[torch.arange(len(lengths)), lengths - 1]
            hidden = state[0] if isinstance(state, tuple) else state
            directions = 2 if self.rnn.bidirectional else 1
            return torch.cat(tuple(hidden[-directions:]), dim=-1)
        if not self.masked:
            return outputs.mean(1) if self.pooling == "mean" else outputs.amax(1)
        mask = (torch.arange(outputs.shape[1]) < lengths[:, None])[:, :, None]
        if self.pooling == "mean":
            return (outputs * mask).sum(1) / lengths[:, None]
        return outputs.masked_fill(~mask, -torch.inf).amax(1)


class Trainer:
    def __init__(self, job: serving.Job):
        self.job = job
        torch.manual_seed(job.seed)
        self.model = Classifier(job)
        self.loss = nn.CrossEntropyLoss()
        adam = job.optimizer
        settings = {
            "lr": adam["learning_rate"],
            "betas": (adam["b1"], adam["b2"]),
            "eps": adam["epsilon"],
        }
        dense = list(self.model.parameters())
        self.optimizers = []
        if job.variant == "sparse":
            dense.remove(self.model.embedding.weight)
            self.optimizers.append(
                torch.optim.SparseAdam([self.model.embedding.weight], **settings)
            )
        fused = {} if job.own_batches else {"fused": True}
        self.optimizers.append(torch.optim.Adam(dense, **settings, **fused))
        self.test = [self._tensors(batch) for batch in job.test_batches()]
        self.loader = self._loader() if job.own_batches else None

    def _loader(self) -> torch.utils.data.DataLoader:
        train = self.job.train
        examples = [
            (torch.from_numpy(row.astype(np.int64)), int(label))
            for row, label in zip(train.rows(), train.labels, strict=True)
        ]

        def collate(batch):
            rows, labels = zip(*batch, strict=True)
            lengths = torch.tensor([len(row) for row in rows])
            tokens = packing.pad_sequence(rows, batch_first=True)
            return tokens, lengths, torch.tensor(labels)

        return torch.utils.data.DataLoader(
            examples, batch_size=self.job.batch_size, shuffle=True, collate_fn=collate
        )

    def _tensors(self, batch: serving.Batch) -> tuple[torch.Tensor, ...]:
        order = slice(None) if self.job.own_batches else np.argsort(-batch.lengths, kind="stable")
        return tuple(torch.from_numpy(array[order].astype(np.int64)) for array in batch[:3])

    def prepare(self, epoch: int):
        if self.job.own_batches:
            return self.loader
        return [self._tensors(batch) for batch in self.job.batches(epoch)]

    def train(self, prepared) -> None:
        self.model.train()
        total = 0.0
        for tokens, lengths, labels in prepared:
            for optimizer in self.optimizers:
                optimizer.zero_grad()
            loss = self.loss(self.model(tokens, lengths), labels)
            loss.backward()
            for optimizer in self.optimizers:
                optimizer.step()
            total += loss.item() * len(labels)

    @torch.no_grad()
    def evaluate(self) -> float:
        self.model.eval()
        hits = sum(
            int((self.model(tokens, lengths).argmax(-1) == labels).sum())
            for tokens, lengths, labels in self.test
        )
        return hits / len(self.job.test)

    def cells(self, prepared) -> int:
        return sum(tokens.numel() for tokens, _, _ in prepared)


if __name__ == "__main__":
    serving.serve(Trainer)
