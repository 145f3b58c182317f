"""Score the model on wines that it has not seen, all together and by group."""
import json
import os

from sklearn.metrics import accuracy_score, f1_score, log_loss

import wine


def main():
    model = wine.load()
    x, y, groups = wine.read(os.environ["ML_INPUT_TEST"])
    predicted = model.predict(x)
    metrics = {
        "accuracy": accuracy_score(y, predicted),
        "f1_macro": f1_score(y, predicted, average="macro"),
        "log_loss": log_loss(y, model.predict_proba(x), labels=model.classes_),
    }
    by_group = {}
    for group in sorted(set(groups)):
        at = [i for i, g in enumerate(groups) if g == group]
        by_group[group] = {
            "rows": len(at),
            "accuracy": accuracy_score([y[i] for i in at], [predicted[i] for i in at]),
        }
    with open(os.environ["ML_METRICS"], "w") as f:
        json.dump({**metrics, "slices": {"strength": by_group}}, f)


if __name__ == "__main__":
    main()
