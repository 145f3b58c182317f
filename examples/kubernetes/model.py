"""What training, validation and serving share."""
import csv
import os

import joblib

TARGET = "diagnosis"
MALIGNANT = "M"


def read(path):
    """Names of the measurements, their values and the diagnoses of a CSV file, or of those in a folder."""
    files = [path]
    if os.path.isdir(path):
        files = sorted(os.path.join(path, f) for f in os.listdir(path) if f.endswith(".csv"))
    rows = []
    for name in files:
        with open(name, newline="") as f:
            rows.extend(csv.DictReader(f))
    features = [c for c in rows[0] if c != TARGET]
    return features, [[float(r[c]) for c in features] for r in rows], [r[TARGET] for r in rows]


def save(features, forest):
    joblib.dump((features, forest), os.path.join(os.environ["ML_MODEL_DIR"], "model.joblib"))


def load():
    return joblib.load(os.path.join(os.environ["ML_MODEL_DIR"], "model.joblib"))


def malignant(forest, x):
    """Probabilities that rows are malignant."""
    return forest.predict_proba(x)[:, list(forest.classes_).index(MALIGNANT)]
