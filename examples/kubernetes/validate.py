"""Judge the model by rows that it has never seen."""
import json
import os

from sklearn.metrics import accuracy_score, recall_score

import model


def main():
    _, forest = model.load()
    _, x, y = model.read(os.environ["ML_INPUT_TEST"])
    told = forest.predict(x)
    with open(os.environ["ML_METRICS"], "w") as f:
        json.dump({"accuracy": accuracy_score(y, told), "recall": recall_score(y, told, pos_label=model.MALIGNANT)}, f)


if __name__ == "__main__":
    main()
