locals { signals = [] }
dataset "d" { source = "d.csv" }
training "function" {
  command = ["python3", "train.py"]
  retrain { on = concat([monitor.m.drift], []) } # ERROR: Only signals may stand here
}
training "local" {
  command = ["python3", "train.py"]
  retrain {
    on = [
      local.signals,                # ERROR: Only signals may stand here
      monitor.m,                    # ERROR: Only signals may stand here
      monitor.m.drfit,              # ERROR: Only signals may stand here
      dataset.d.digest,             # ERROR: Only signals may stand here
      "monitor.m.drift",            # ERROR: Only signals may stand here
      monitor.nope.drift,           # ERROR: Unknown block
    ]
  }
}
training "t" { command = ["python3", "train.py"] }
deployment "d" {
  model   = training.t.model
  command = ["serve"]
}
monitor "m" {
  deployment = deployment.d
  latency { p99 = "1s" }
}
