variable "where" { default = "here" }
locals {
  base = "x"
  one  = var.wher                   # ERROR: Unknown variable
  two  = local.bas                  # ERROR: Unknown local
  five = uper("x")                  # ERROR: Unknown function
  six  = traning.t.model            # ERROR: Unknown name
  nine = path.modul                 # ERROR: Unknown name
  ten  = module.nope.x              # ERROR: Unknown module
  alone = training                  # ERROR: Incomplete reference
  index = training["t"]             # ERROR: Incomplete reference
  self  = self.model                # ERROR: No self here
  each  = each.key                  # ERROR: No each here
  count = count.index               # ERROR: No count here
}
training "t" {
  command = ["python3", "train.py"]
  inputs  = { train = dataset.tumor } # ERROR: Unknown block
}
dataset "tumors" { source = "d.csv" }
dataset "many" {
  count  = 2
  source = "d.csv"
}
validation "v" {
  model = training.t.modle          # ERROR: Unknown output
  threshold "x" { min = 1 }
}
validation "w" {
  model = training.t["a"].model     # ERROR: Not a set of instances
  threshold "x" { min = 1 }
}
training "u" {
  command = ["python3", "train.py"]
  inputs  = { train = dataset.many.digest } # ERROR: Missing instance key
}
training "feedback" {
  command = ["python3", "train.py"]
  retrain { on = [monitor.m.drift] } # ERROR: Missing instance key
}
monitor "m" {
  for_each   = toset(["a"])
  deployment = deployment.d
  latency { p99 = "1s" }
}
deployment "d" {
  model   = training.t.model
  command = ["serve"]
}
training "post" {
  command = ["python3", "train.py"]
  postcondition {
    condition     = self.modle.version > 0 # ERROR: Unknown output
    error_message = "x"
  }
}
