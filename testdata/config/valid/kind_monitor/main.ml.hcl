dataset "d" {
  source = "d.csv"
  split "train" { fraction = 0.5 }
}

training "t" {
  command = ["python3", "train.py"]
  retrain { on = [monitor.m.drift, monitor.m.latency] }
}

deployment "d" {
  model   = training.t.model
  command = ["python3", "serve.py"]
}

notifier "log" { type = "log" }

monitor "m" {
  deployment = deployment.d
  reference  = dataset.d.split.train
  window     = { duration = "24h" }
  drift {
    method = "psi"
    column "age" { threshold = 0.3 }
  }
  latency {
    p95        = "200ms"
    error_rate = 0.01
  }
  alert { notify = [notifier.log] }
}

output "drifted" { value = monitor.m.drift.state == "bad" }
