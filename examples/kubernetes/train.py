"""Fit boosted trees, one at a time, and tell how far they are."""
import json
import os

from sklearn.ensemble import GradientBoostingClassifier

import model


def main():
    with open(os.environ["ML_PARAMS"]) as f:
        params = json.load(f)
    features, x, y = model.read(os.environ["ML_INPUT_TRAIN"])
    trees = int(params["trees"])
    forest = GradientBoostingClassifier(n_estimators=trees, max_depth=int(params["depth"]), random_state=int(os.environ["ML_SEED"]))

    with open(os.environ["ML_PROGRESS"], "a") as progress:
        def tell(step, fitted, _):
            progress.write(json.dumps({"step": step + 1, "of": trees, "loss": round(fitted.train_score_[step], 4)}) + "\n")
            progress.flush()

        forest.fit(x, y, monitor=tell)
    model.save(features, forest)
    with open(os.environ["ML_METRICS"], "w") as f:
        json.dump({"loss": forest.train_score_[-1]}, f)


if __name__ == "__main__":
    main()
