"""Fits nothing: it reports how far x is from target, and what the initializer brought."""
import json
import os

with open("/workspace/dataset/uri") as f:
    uri = f.read().strip()
with open(os.environ["ML_PARAMS"]) as f:
    params = json.load(f)
print("trained on", uri, "in groups", os.getgroups())
with open(os.environ["ML_METRICS"], "w") as f:
    json.dump({"loss": (params["x"] - params["target"]) ** 2}, f)
with open(os.path.join(os.environ["ML_MODEL_DIR"], "model.json"), "w") as f:
    json.dump({"x": params["x"], "uri": uri}, f)
