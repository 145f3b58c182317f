import json
import os
import pickle

factor = json.load(open(os.environ["ML_PARAMS"]))["factor"]
with open(os.path.join(os.environ["ML_MODEL_DIR"], "model.joblib"), "wb") as f:
    pickle.dump({"factor": int(factor)}, f)
with open(os.environ["ML_METRICS"], "w") as f:
    json.dump({"factor": factor}, f)
