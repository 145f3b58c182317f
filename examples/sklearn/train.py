"""Fit a linear classifier epoch by epoch; one row in five tells how it goes."""
import json
import os

from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import wine


def main():
    with open(os.environ["ML_PARAMS"]) as f:
        params = json.load(f)
    seed, epochs = int(os.environ["ML_SEED"]), int(params["epochs"])
    x, y, _ = wine.read(os.environ["ML_INPUT_TRAIN"])
    x_fit, x_held, y_fit, y_held = train_test_split(x, y, test_size=0.2, stratify=y, random_state=seed)
    scaler = StandardScaler().fit(x_fit)
    model = SGDClassifier(
        loss=params["loss"],
        alpha=params.get("alpha", 1e-4),
        eta0=params.get("eta0", 0.01),
        learning_rate="constant",
        average=True,
        random_state=seed,
    )
    with open(os.environ["ML_PROGRESS"], "a") as progress:
        for step in range(1, epochs + 1):
            model.partial_fit(scaler.transform(x_fit), y_fit, classes=wine.CULTIVARS)
            accuracy = accuracy_score(y_held, model.predict(scaler.transform(x_held)))
            progress.write(json.dumps({"step": step, "of": epochs, "accuracy": accuracy}) + "\n")
            progress.flush()
    wine.save(make_pipeline(scaler, model))
    with open(os.environ["ML_METRICS"], "w") as f:
        json.dump({"accuracy": accuracy}, f)


if __name__ == "__main__":
    main()
