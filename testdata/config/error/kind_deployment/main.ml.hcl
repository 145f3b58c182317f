training "t" { command = ["python3", "train.py"] }
deployment "server" { model = training.t.model } # ERROR: A deployment needs a server
deployment "sink" {
  model   = training.t.model
  command = ["serve"]
  sink {} # ERROR: A sink has a url or a file
}
deployment "steps" {
  model   = training.t.model
  command = ["serve"]
  rollout { steps = [50, 10, 100] } # ERROR: Canary steps must rise to 100
}
deployment "short" {
  model    = training.t.model
  command  = ["serve"]
  replicas = -1                     # ERROR: Invalid value
  rollout { steps = [10, 50] }
}
deployment "end" {
  model    = training.t.model
  command  = ["serve"]
  rollout { steps = [10, 50] }      # ERROR: Canary steps must end at 100
}
