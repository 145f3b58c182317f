import json
import os

params = json.load(open(os.environ["ML_PARAMS"]))
with open(os.path.join(os.environ["ML_MODEL_DIR"], "model.json"), "w") as f:
    json.dump(params, f)
with open(os.environ["ML_METRICS"], "w") as f:
    json.dump({"factor": params["factor"]}, f)
