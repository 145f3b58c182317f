dataset "d" { source = "d.csv" }
training "t" { command = ["python3", "train.py"] }
validation "gateless" { # ERROR: A validation needs a threshold
  model = training.t.model
}
validation "boundless" {
  model = training.t.model
  threshold "recall" {}             # ERROR: This threshold bounds nothing
}
validation "wrong" {
  model = dataset.d                 # ERROR: Wrong type
  threshold "recall" { min = "NaN" } # ERROR: Wrong type
}
validation "twice" {
  model = training.t.model
  threshold "recall" { min = 0.1 }
  threshold "recall" { min = 0.2 }  # ERROR: Duplicate block
}
validation "null" {
  model = null                      # ERROR: Missing attribute
  threshold "recall" { min = 0.1 }
}
