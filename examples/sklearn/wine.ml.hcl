# Three cultivars of wine: tune, judge by group, score a table.

variable "python" {
  default     = "python3"
  description = "Interpreter that has scikit-learn."
}

dataset "wine" {
  source = "data/wine.csv"
  target = "cultivar"
  column "strength" { values = ["light", "strong"] }
  expect "no_nulls" { not_null = ["*"] }
  expect "measured" { range = { alcohol = [8, 20] } }

  split "train" { fraction = 0.7 }
  split "test" { fraction = 0.3 }
}

training "wine" {
  command = [var.python, "train.py"]
  sources = ["train.py", "wine.py"]
  inputs  = { train = dataset.wine.split.train }
  params  = { epochs = 30, loss = "log_loss" }
  seed    = 7
  timeout = "5m"

  tuning {
    method   = "tpe"
    trials   = 8
    parallel = 2
    metric   = "accuracy"
    parameter "alpha" {
      min = 0.00001
      max = 1
      log = true
    }
    parameter "eta0" {
      min = 0.001
      max = 0.5
      log = true
    }
    parameter "loss" {
      type   = "categorical"
      values = ["log_loss", "modified_huber"]
    }
    early_stopping {
      min_trials = 3
      min_step   = 5
    }
  }
}

validation "wine" {
  model   = training.wine.model
  inputs  = { test = dataset.wine.split.test }
  command = [var.python, "validate.py"]
  sources = ["validate.py", "wine.py"]
  threshold "accuracy" { min = 0.9 }
  threshold "log_loss" { max = 1 }
  slice "strength" {
    min_rows = 10
    threshold "accuracy" { min = 0.85 }
  }
}

batch_inference "wine" {
  model      = validation.wine.model
  input      = dataset.wine.split.test
  output     = "out/predictions.csv"
  command    = [var.python, "predict.py"]
  sources    = ["predict.py", "wine.py"]
  batch_size = 25
}

output "predictions" { value = batch_inference.wine.path }
output "accuracy" { value = validation.wine.metrics["accuracy"] }
