"""What training, validation and scoring share."""
import csv
import os

import joblib

TARGET = "cultivar"
GROUP = "strength"
CULTIVARS = ["cultivar_1", "cultivar_2", "cultivar_3"]


def read(path):
    """Measurements, cultivars and groups of a CSV file."""
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f))
    features = [c for c in rows[0] if c not in (TARGET, GROUP)]
    x = [[float(r[c]) for c in features] for r in rows]
    return x, [r[TARGET] for r in rows], [r[GROUP] for r in rows]


def save(model):
    joblib.dump(model, os.path.join(os.environ["ML_MODEL_DIR"], "model.joblib"))


def load():
    return joblib.load(os.path.join(os.environ["ML_MODEL_DIR"], "model.joblib"))
