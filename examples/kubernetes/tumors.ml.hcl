# Trained as a Job, served by as many pods as there is work, next to a service of the hospital's own that says from where on to warn.

variable "registry" {
  default     = "registry.example.com/tumors"
  description = "Registry that this machine and the cluster reach, for data, models and images."
}

variable "namespace" {
  default     = "default"
  description = "Namespace of the cluster."
}

variable "image" {
  default     = "registry.example.com/python-sklearn:1"
  description = "Image with Python and scikit-learn."
}

ml {
  artifacts        = "oci://${var.registry}"
  default_provider = ["kubernetes", "oci"]
}

provider "kubernetes" {
  namespace = var.namespace
  image     = var.image
}

# The policy is no part of the model: it changes by a plan of its own, and nothing is trained or rolled out for it.
manifest "policy" {
  yaml     = templatefile("policy.yaml", { image = var.image, warn_from = 0.4 })
  wait_for = ["Deployment/policy:Available"]
}

dataset "tumors" {
  source = "data/wdbc*.csv"
  target = "diagnosis"
  expect "no_nulls" { not_null = ["*"] }
  split "train" { fraction = 0.75 }
  split "test" { fraction = 0.25 }
}

training "tumors" {
  command = ["python3", "train.py"]
  sources = ["train.py", "model.py"]
  inputs  = { train = dataset.tumors.split.train }
  params  = { trees = 60, depth = 3 }
  timeout = "10m"
  resources {
    cpu    = "200m"
    memory = "512Mi"
  }
}

validation "tumors" {
  model   = training.tumors.model
  inputs  = { test = dataset.tumors.split.test }
  command = ["python3", "validate.py"]
  sources = ["validate.py", "model.py"]
  threshold "recall" { min = 0.85 }
  threshold "accuracy" { min = 0.88 }
}

deployment "tumors" {
  depends_on = [manifest.policy]
  model      = validation.tumors.model
  command    = ["python3", "serve.py"]
  sources    = ["serve.py", "model.py"]
  env        = { POLICY = "http://policy/policy.json" }
  resources {
    cpu    = "50m"
    memory = "256Mi"
  }
  scale {
    min    = 1
    max    = 3
    target = 70
  }
  rollout {
    strategy = "canary"
    steps    = [20, 100]
    interval = "3s"
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
  window     = { requests = 60 }
  drift { confirm = 1 }
}

output "endpoint" {
  value       = deployment.tumors.endpoint
  description = "Where predictions are answered."
}
