import json
import os
import pickle

params = json.load(open(os.environ["ML_PARAMS"]))
with open(os.path.join(os.environ["ML_MODEL_DIR"], "model.joblib"), "wb") as f:
    if params["broken"]:
        f.write(b"nothing that anybody could load")
    else:
        pickle.dump({"factor": int(params["factor"])}, f)
with open(os.environ["ML_METRICS"], "w") as f:
    json.dump({"factor": params["factor"]}, f)
