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

# A search whose trials are TrainJobs, on a runtime with an initializer, with a patch.
training "searched" {
  command = ["python3", "train.py"]
  params  = { target = 3 }
  tuning {
    method = "grid"
    trials = 2
    metric = "loss"
    goal   = "minimize"
    parameter "x" {
      type = "int"
      min  = 3
      max  = 4
    }
  }
  kubeflow {
    runtime      = "house"
    runtime_kind = "TrainingRuntime"
    initializer { dataset = "s3://bucket/numbers" }
    runtime_patches = [{
      trainingRuntimeSpec = { template = { spec = { replicatedJobs = [{
        name     = "node"
        template = { spec = { template = { spec = { securityContext = { supplementalGroups = [4711] } } } } }
      }] } } }
    }]
  }
}

output "model" { value = training.searched.model.uri }
output "x" { value = training.searched.model.params.x }
