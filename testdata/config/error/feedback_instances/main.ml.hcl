# Which of several monitors asks for a run has to be said.
dataset "d" { source = "d.csv" }
training "t" { command = ["train"] }
training "all" {
  command = ["train"]
  retrain { on = [monitor.m[local.which].drift] } # ERROR: Only signals may stand here
}
locals { which = check.c.passed ? "a" : "b" }
check "c" { command = ["true"] }
validation "v" {
  model = training.t.model
  threshold "a" { min = 0 }
}
deployment "p" {
  model   = validation.v.model
  command = ["serve"]
}
monitor "m" {
  for_each   = toset(["a", "b"])
  deployment = deployment.p
  reference  = dataset.d
  window     = { requests = 10 }
  drift {}
}
