"""A small network in PyTorch that scales its own inputs, so that what is trained is all that serves."""
import csv
import os

import torch

TARGET, POSITIVE = "diagnosis", "M"


def read(path):
    """The rows of a CSV file, or of those in a folder, as tensors: features and 1 for malignant."""
    files = [path] if os.path.isfile(path) else sorted(os.path.join(path, f) for f in os.listdir(path) if f.endswith(".csv"))
    rows = []
    for name in files:
        with open(name, newline="") as f:
            rows.extend(csv.DictReader(f))
    features = [c for c in rows[0] if c != TARGET]
    x = torch.tensor([[float(r[c]) for c in features] for r in rows])
    return x, torch.tensor([1.0 if r[TARGET] == POSITIVE else 0.0 for r in rows])


class Net(torch.nn.Module):
    def __init__(self, features: int, hidden: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.layers = torch.nn.Sequential(torch.nn.Linear(features, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits: above 0 means malignant."""
        return self.layers((x - self.mean) / self.scale).squeeze(-1)


def accuracy(net, x, y):
    with torch.no_grad():
        return ((net(x) > 0).float() == y).float().mean().item()
