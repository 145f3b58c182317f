ml {
  required_version = ">= 0.1"
  artifacts        = var.where == "local" ? ".ml/artifacts" : "oci://registry.example.com/ml"
  default_provider = {
    local      = ["local"]
    kubernetes = ["kubernetes", "oci"]
    kserve     = ["kserve", "kubeflow", "kubernetes", "oci"]
  }[var.where]
}

variable "where" { default = "local" }

dataset "tumors" {
  source = "data/wdbc.csv"
  target = "diagnosis"
  column "radius_mean" {
    type  = "number"
    range = [0, 50]
  }
  expect "no_nulls"   { not_null = ["*"] }
  expect "enough"     { row_count = { min = 500 } }
  split "train" { fraction = 0.75 }
  split "test"  { fraction = 0.25 }
}

dataset "outcomes" { source = "data/outcomes.csv" }

notifier "team" {
  type = "webhook"
  url  = "https://hooks.example.com/ml"
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
    rows    = 50
    params  = { epochs = 2 }
    timeout = "30s"
  }
  inputs     = { train = dataset.tumors.split.train }
  params     = { epochs = 300, learning_rate = 0.1 }
  timeout    = "10m"
  retrain {
    on           = [monitor.tumors.drift, monitor.tumors.performance]
    schedule     = "0 3 * * 1"
    max_age      = "720h"
    min_new_rows = 0
    cooldown     = "1h"
  }
}

validation "tumors" {
  model   = training.tumors.model
  inputs  = { test = dataset.tumors.split.test }
  command = ["python3", "validate.py"]
  threshold "recall"   { min = 0.93 }
  threshold "accuracy" {
    min            = 0.90
    max_regression = 0.02
  }
}

deployment "tumors" {
  model    = validation.tumors.model
  command  = ["python3", "serve.py"]
  replicas = 1
  rollout {
    strategy = "canary"
    steps    = [10, 50, 100]
    interval = "30s"
    abort {
      error_rate   = 0.05
      p99          = "500ms"
      min_requests = 20
    }
    on_no_traffic = "hold"
  }
}

monitor "tumors" {
  deployment = deployment.tumors
  reference  = dataset.tumors.split.train
  window     = { requests = 200 }
  drift {
    method  = "auto"
    share   = 0.5
    confirm = 2
  }
  performance {
    labels = dataset.outcomes
    id     = "prediction_id"
    label  = "diagnosis"
    metric "recall" { min = 0.9 }
  }
  latency { p99 = "200ms" }
  alert   { notify = [notifier.team] }
}
