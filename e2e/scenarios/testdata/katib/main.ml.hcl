variable "registry" {}
variable "namespace" {}
variable "image" {}
variable "where" {}

ml {
  artifacts        = "oci://${var.registry}"
  default_provider = ["kubeflow", "kubernetes", "local"]
}

provider "kubeflow" {
  namespace = var.namespace
  image     = var.image
}

provider "kubernetes" { namespace = var.namespace }

# A search that Katib conducts: each kind of parameter, and a goal beside the metric.
training "tumors" {
  command = ["python3", "train.py"]
  params  = { target = 0.01 }
  tuning {
    method   = "tpe"
    trials   = 5
    parallel = 2
    seed     = 7
    metric   = "loss"
    goal     = "minimize"
    parameter "rate" {
      min = 0.0001
      max = 0.1
      log = true
    }
    parameter "depth" {
      type = "int"
      min  = 1
      max  = 4
    }
    parameter "kernel" {
      type   = "categorical"
      values = ["linear", "rbf"]
    }
  }
  kubeflow {
    katib {}
  }
}

output "params" { value = training.tumors.model.params }
