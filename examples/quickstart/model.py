"""Logistic regression in plain Python: small enough to read, good enough to serve."""
import csv
import json
import math
import os

TARGET = "diagnosis"
POSITIVE = "M"


def read_rows(path):
    """Rows of a CSV file as dictionaries; a folder is read file by file."""
    files = [path]
    if os.path.isdir(path):
        files = sorted(os.path.join(path, f) for f in os.listdir(path) if f.endswith(".csv"))
    rows = []
    for name in files:
        with open(name, newline="") as f:
            rows.extend(csv.DictReader(f))
    return rows


def split_target(rows):
    features = [c for c in rows[0] if c != TARGET]
    x = [[float(r[c]) for c in features] for r in rows]
    y = [1.0 if r[TARGET] == POSITIVE else 0.0 for r in rows]
    return features, x, y


def sigmoid(z):
    if z >= 0:
        return 1.0 / (1.0 + math.exp(-z))
    e = math.exp(z)
    return e / (1.0 + e)


class Model:
    def __init__(self, features, mean, scale, weights, bias):
        self.features, self.mean, self.scale = features, mean, scale
        self.weights, self.bias = weights, bias

    @classmethod
    def fit(cls, features, x, y, epochs, learning_rate, l2=1e-3, progress=None):
        n, d = len(x), len(features)
        mean = [sum(r[j] for r in x) / n for j in range(d)]
        scale = [math.sqrt(sum((r[j] - mean[j]) ** 2 for r in x) / n) or 1.0 for j in range(d)]
        z = [[(r[j] - mean[j]) / scale[j] for j in range(d)] for r in x]
        w, b = [0.0] * d, 0.0
        for epoch in range(1, epochs + 1):
            gw, gb, loss = [0.0] * d, 0.0, 0.0
            for row, target in zip(z, y):
                p = sigmoid(b + sum(wi * xi for wi, xi in zip(w, row)))
                loss -= math.log(max(p if target else 1.0 - p, 1e-12))
                error = p - target
                gb += error
                for j, xj in enumerate(row):
                    gw[j] += error * xj
            for j in range(d):
                w[j] -= learning_rate * (gw[j] / n + l2 * w[j])
            b -= learning_rate * gb / n
            if progress:
                progress(epoch, epochs, loss / n)
        return cls(features, mean, scale, w, b)

    def probability(self, row):
        z = self.bias
        for w, v, m, s in zip(self.weights, row, self.mean, self.scale):
            z += w * (v - m) / s
        return sigmoid(z)

    def predict(self, row):
        return POSITIVE if self.probability(row) >= 0.5 else "B"

    def save(self, folder):
        with open(os.path.join(folder, "model.json"), "w") as f:
            json.dump(self.__dict__, f)

    @classmethod
    def load(cls, folder):
        with open(os.path.join(folder, "model.json")) as f:
            return cls(**json.load(f))


def scores(model, x, y):
    """Accuracy, precision and recall; the positive class is malignant."""
    tp = fp = fn = tn = 0
    for row, target in zip(x, y):
        positive = model.probability(row) >= 0.5
        if positive and target:
            tp += 1
        elif positive:
            fp += 1
        elif target:
            fn += 1
        else:
            tn += 1
    return {
        "accuracy": (tp + tn) / max(1, len(y)),
        "precision": tp / max(1, tp + fp),
        "recall": tp / max(1, tp + fn),
    }
