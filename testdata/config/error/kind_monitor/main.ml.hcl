training "t" { command = ["python3", "train.py"] }
deployment "d" {
  model   = training.t.model
  command = ["serve"]
}
monitor "blind" { deployment = deployment.d } # ERROR: This monitor watches nothing
monitor "reference" {
  deployment = deployment.d
  drift {} # ERROR: Drift needs a reference
}
monitor "window" {
  deployment = deployment.d
  window     = { requests = 1, duration = "1h" } # ERROR: A window has requests or a duration
  latency { p99 = "1s" }
}
monitor "values" {
  deployment = training.t           # ERROR: Wrong type
  window     = { duration = "9999999h" } # ERROR: Invalid value
  latency { error_rate = 2 }        # ERROR: Invalid value
}
