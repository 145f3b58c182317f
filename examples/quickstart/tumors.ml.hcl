# Breast cancer diagnosis, from data to a watched service.

dataset "tumors" {
  source = "data/wdbc*.csv"
  target = "diagnosis"

  column "radius_mean" {
    type  = "number"
    range = [0, 60]
  }
  expect "no_nulls" { not_null = ["*"] }
  expect "enough" { row_count = { min = 500 } }
  expect "labels" { in_set = { diagnosis = ["M", "B"] } }

  split "train" { fraction = 0.75 }
  split "test" { fraction = 0.25 }
}

check "unit" {
  command = ["python3", "-m", "unittest", "-q"]
  sources = ["*.py", "tests/**"]
}

training "tumors" {
  depends_on = [check.unit]
  command    = ["python3", "train.py"]
  sources    = ["train.py", "model.py"]
  smoke {
    rows    = 60
    params  = { epochs = 2, learning_rate = 0.1 }
    timeout = "30s"
  }
  inputs  = { train = dataset.tumors.split.train }
  params  = { epochs = 200, learning_rate = 0.3 }
  timeout = "10m"
  retrain {
    on = [monitor.tumors.drift]
  }
}

validation "tumors" {
  model   = training.tumors.model
  inputs  = { test = dataset.tumors.split.test }
  command = ["python3", "validate.py"]
  sources = ["validate.py", "model.py"]
  threshold "recall" { min = 0.90 }
  threshold "accuracy" {
    min            = 0.90
    max_regression = 0.02
  }
}

package "tumors" {
  count   = var.where == "local" ? 0 : 1 # on this machine the command serves by itself
  base    = var.image
  model   = validation.tumors.model
  command = ["python3", "serve.py"]
  sources = ["serve.py", "model.py"]
}

deployment "tumors" {
  model   = validation.tumors.model
  image   = one(package.tumors[*].image)
  command = ["python3", "serve.py"]
  sources = ["serve.py", "model.py"]
  rollout {
    strategy = "canary"
    steps    = [20, 50, 100]
    interval = "2s"
    max_wait = "20s"
    abort {
      error_rate   = 0.05
      min_requests = 10
    }
    on_no_traffic = "promote"
  }
}

monitor "tumors" {
  deployment = deployment.tumors
  reference  = dataset.tumors.split.train
  window     = { requests = 50 }
  drift {
    share   = 0.5
    confirm = 2
  }
  latency { p99 = "500ms" }
  alert { notify = [notifier.log] }
}

notifier "log" {
  type = "log"
}

output "endpoint" {
  value       = deployment.tumors.endpoint
  description = "Where predictions are answered."
}
