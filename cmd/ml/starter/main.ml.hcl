# A starter: data, a check, a model, a gate, a server. Run: ml plan, then ml apply.

dataset "seeds" {
  source = "data/seeds.csv"
  target = "kind"
  expect "no_nulls" { not_null = ["*"] }
  split "train" { fraction = 0.75 }
  split "test" { fraction = 0.25 }
}

check "syntax" {
  command = ["python3", "-m", "py_compile", "seeds.py"]
  sources = ["seeds.py"]
}

training "seeds" {
  depends_on = [check.syntax]
  command    = ["python3", "seeds.py", "train"]
  inputs     = { train = dataset.seeds.split.train }
  params     = { neighbours = 5 }
}

validation "seeds" {
  model   = training.seeds.model
  inputs  = { test = dataset.seeds.split.test }
  command = ["python3", "seeds.py", "validate"]
  threshold "accuracy" { min = 0.9 }
}

deployment "seeds" {
  model   = validation.seeds.model
  command = ["python3", "seeds.py", "serve"]
}

# Ask it: curl -d '{"instances": [{"length": 5.2, "width": 3.1}]}' "$(ml output endpoint)/v1/models/seeds:predict"
output "endpoint" { value = deployment.seeds.endpoint }
