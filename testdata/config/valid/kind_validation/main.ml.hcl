training "t" { command = ["python3", "train.py"] }

validation "v" {
  model = training.t.model
  threshold "loss" {
    max             = 0.3
    max_regression  = 0.01
    lower_is_better = true
  }
  slice "region" {
    min_rows = 10
    threshold "recall" { min = 0.8 }
  }
  precondition {
    condition     = training.t.version > 0
    error_message = "There is no version of ${training.t.address}."
  }
}
