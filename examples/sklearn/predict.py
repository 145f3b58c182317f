"""Predict the rows of ML_INPUT_DATA, one line each, under a header."""
import csv
import os

import wine


def main():
    model = wine.load()
    x, _, _ = wine.read(os.environ["ML_INPUT_DATA"])
    with open(os.environ["ML_OUTPUT"], "w", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(["cultivar", "probability"])
        for label, probabilities in zip(model.predict(x), model.predict_proba(x)):
            out.writerow([label, f"{max(probabilities):.4f}"])


if __name__ == "__main__":
    main()
