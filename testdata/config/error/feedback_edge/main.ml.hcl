training "t" {
  command = ["python3", "train.py"]
  params  = { drifted = monitor.m.drift.state }
}
deployment "d" {
  model   = training.t.model        # ERROR: Blocks need each other
  command = ["serve"]
}
monitor "m" {
  deployment = deployment.d
  latency { p99 = "1s" }
}
