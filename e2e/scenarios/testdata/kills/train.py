"""The model is its data; training takes two seconds."""
import json
import os
import time

text = open(os.environ["ML_INPUT_DATA"]).read()
with open(os.environ["ML_PROGRESS"], "a") as out:
    for step in range(1, 5):
        time.sleep(0.5)
        out.write(json.dumps({"step": step, "of": 4}) + "\n")
        out.flush()
open(os.path.join(os.environ["ML_MODEL_DIR"], "model.csv"), "w").write(text)
json.dump({"rows": text.count("\n") - 1}, open(os.environ["ML_METRICS"], "w"))
