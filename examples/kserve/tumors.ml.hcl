# Trained on two nodes by Kubeflow Trainer, served by KServe from an image of the model, rolled out by canary.

variable "registry" {
  default     = "registry.example.com/tumors"
  description = "Registry that this machine and the cluster reach, for data, models and images."
}

variable "namespace" {
  default     = "default"
  description = "Namespace of the cluster."
}

variable "image" {
  default     = "pytorch/pytorch:2.8.0-cpu"
  description = "Image with PyTorch for the training."
}

variable "base" {
  default     = "busybox:1.37"
  description = "Image with sh that a model is put on, so that KServe can mount it."
}

ml {
  artifacts        = "oci://${var.registry}"
  default_provider = ["kserve", "kubeflow", "kubernetes", "oci"]
}

provider "kubernetes" {
  namespace = var.namespace
  image     = var.image
}

provider "kubeflow" {
  namespace = var.namespace
  image     = var.image
}

provider "kserve" {
  namespace     = var.namespace
  modelcar_base = var.base
}

dataset "tumors" {
  source = "data/wdbc.csv"
  target = "diagnosis"
  expect "no_nulls" { not_null = ["*"] }
  split "train" { fraction = 0.75 }
  split "test" { fraction = 0.25 }
}

training "tumors" {
  command = ["python3", "train.py"]
  sources = ["train.py", "model.py"]
  nodes   = 2 # WORLD_SIZE and RANK reach the command as on any machine
  inputs  = { train = dataset.tumors.split.train }
  params  = { epochs = 200, learning_rate = 0.05, hidden = 16 }
  timeout = "10m"
}

validation "tumors" {
  model = training.tumors.model
  threshold "accuracy" { min = 0.9 }
}

deployment "tumors" {
  model  = validation.tumors.model
  format = "pytorch" # KServe finds the runtime that offers itself for it
  rollout {
    strategy = "canary"
    steps    = [20, 50, 100]
    interval = "3s"
    abort {
      error_rate   = 0.05
      min_requests = 10
    }
    on_no_traffic = "promote"
  }
}

output "endpoint" {
  value       = deployment.tumors.endpoint
  description = "Where predictions are answered."
}
