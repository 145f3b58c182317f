"""Score the model in ML_MODEL_DIR on rows that it has not seen."""
import json
import os

from model import Model, read_rows, scores, split_target


def main():
    model = Model.load(os.environ["ML_MODEL_DIR"])
    _, x, y = split_target(read_rows(os.environ["ML_INPUT_TEST"]))
    metrics = scores(model, x, y)
    print(f"validated on {len(x)} rows: " + ", ".join(f"{k} {v:.3f}" for k, v in metrics.items()))
    json.dump(metrics, open(os.environ["ML_METRICS"], "w"))


if __name__ == "__main__":
    main()
