training "t" { command = ["python3", "train.py"] }

deployment "d" {
  model   = training.t.model
  command = ["python3", "serve.py"]
  port    = 8080
  readiness { path = "/health" }
  transformer { command = ["python3", "transform.py"] }
  sink { file = "answers.jsonl" }
  capture { max_mb = 64 }
  lifecycle {
    prevent_destroy      = true
    ignore_changes       = [replicas, env["A"], rollout.interval]
    replace_triggered_by = [training.t]
  }
  postcondition {
    condition     = self.version >= 1
    error_message = "No version serves."
  }
}
