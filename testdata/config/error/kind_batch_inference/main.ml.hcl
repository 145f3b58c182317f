dataset "d" { source = "d.csv" }
training "t" { command = ["python3", "train.py"] }
batch_inference "none" { # ERROR: A command is needed
  model  = training.t.model
  input  = dataset.d
  output = "out.jsonl"
}
batch_inference "wrong" { # ERROR: Missing attribute
  command  = ["predict"]
  model    = training.t.model
  input    = training.t.model       # ERROR: Wrong type
  parallel = 1000                   # ERROR: Invalid value
}
