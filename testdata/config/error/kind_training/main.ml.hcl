dataset "d" { source = "d.csv" }
training "values" {
  command = ["python3", "train.py"]
  nodes   = 0                       # ERROR: Invalid value
  keep    = 1.5                     # ERROR: Invalid value
  timeout = "9999999h"              # ERROR: Invalid value
  grace   = "-1s"                   # ERROR: Invalid value
  seed    = 1e308                   # ERROR: Invalid value
}
training "tuning" {
  command = ["python3", "train.py"]
  tuning {
    method = "grid"
    metric = "recall"
    parameter "no_values" { type = "categorical" } # ERROR: This parameter cannot be searched # ERROR: This parameter cannot be searched
    parameter "no_ends" {}
  }
}
training "blocks" {
  command = ["python3", "train.py"]
  smoke {}
  smoke {}                          # ERROR: Duplicate block
  resources "x" {}                  # ERROR: Wrong number of labels
  retrian {}                        # ERROR: Unknown block
  params {}                         # ERROR: Attribute written as a block
  tuning = 1                        # ERROR: Block written as an attribute
}
training "nested" {
  command = ["python3", "train.py"]
  local { nise = 3 }                # ERROR: Unknown attribute
  kubernetes {
    pool "a" {}                     # ERROR: Missing attribute
  }
  kubernetes {}                     # ERROR: Duplicate block
  kserve {}                         # ERROR: Unknown block
}
training "inputs" {
  command = ["python3", "train.py"]
  inputs  = { train = "d.csv" }     # ERROR: Not an input
}
training "missing" {
  command = ["python3", "train.py"]
  tuning {                          # ERROR: Missing block
    metric = "recall"
  }
}
