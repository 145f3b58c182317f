"""Fits nothing: its loss is how far the parameters are from those that are right."""
import json
import math
import os

with open(os.environ["ML_PARAMS"]) as f:
    params = json.load(f)
loss = abs(math.log10(params["rate"] / params["target"])) + params["depth"] + (params["kernel"] != "rbf")
print("loss", loss)
with open(os.environ["ML_METRICS"], "w") as f:
    json.dump({"loss": loss}, f)
with open(os.path.join(os.environ["ML_MODEL_DIR"], "model.json"), "w") as f:
    json.dump(params, f)
