dataset "d" { source = "d.csv" }

training "t" {
  command = ["python3", "train.py"]
  inputs  = { train = dataset.d }
  params  = { depth = 3, layers = [1, 2], name = "x" }
  local { nice = 5 }
  kubernetes {
    namespace = "ml"
    pool "gpu" { size = 2 }
  }
  tuning {
    method = "grid"
    metric = "recall"
    parameter "depth" {
      type = "int"
      min  = 1
      max  = 5
    }
    parameter "kernel" {
      type   = "categorical"
      values = ["a", "b"]
    }
    early_stopping { min_trials = 4 }
  }
  retrain {
    max_age = "30d"
    budget {
      runs = 3
      per  = "1w"
    }
  }
  resources {
    cpu    = "2"
    memory = "4Gi"
  }
}
