"""Train on ML_INPUT_TRAIN and write the model into ML_MODEL_DIR."""
import json
import os

from model import Model, read_rows, scores, split_target


def main():
    params = json.load(open(os.environ["ML_PARAMS"]))
    features, x, y = split_target(read_rows(os.environ["ML_INPUT_TRAIN"]))
    with open(os.environ["ML_PROGRESS"], "a") as out:

        def progress(step, of, loss):
            if step % 10 == 0 or step == of:
                out.write(json.dumps({"step": step, "of": of, "loss": round(loss, 4)}) + "\n")
                out.flush()

        model = Model.fit(features, x, y, int(params["epochs"]), float(params["learning_rate"]), progress=progress)
    model.save(os.environ["ML_MODEL_DIR"])
    metrics = scores(model, x, y)
    print(f"trained on {len(x)} rows: " + ", ".join(f"{k} {v:.3f}" for k, v in metrics.items()))
    json.dump(metrics, open(os.environ["ML_METRICS"], "w"))


if __name__ == "__main__":
    main()
