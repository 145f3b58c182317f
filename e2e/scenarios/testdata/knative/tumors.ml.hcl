# A model that multiplies the sum of a row by a factor, served by KServe on Knative, whose own ingress carries the requests of a canary.

variable "registry" {}
variable "namespace" {}
variable "image" {}
variable "base" {}
variable "ingress" {}
variable "mode" { default = "Knative" }

ml {
  artifacts        = "oci://${var.registry}"
  default_provider = ["kserve", "kubernetes", "oci"]
}

provider "kubernetes" {
  namespace = var.namespace
  image     = var.image
}

provider "kserve" {
  namespace       = var.namespace
  modelcar_base   = var.base
  knative_ingress = var.ingress
}

locals {
  factor = 1
  broken = false
}

training "tumors" {
  command = ["python3", "train.py"]
  params  = { factor = local.factor, broken = local.broken }
}

deployment "tumors" {
  model  = training.tumors.model
  format = "sklearn"
  rollout {
    strategy = "canary"
    steps    = [10, 50, 100]
    interval = "4s"
  }
  kserve {
    deployment_mode       = var.mode
    canary                = var.mode == "Knative" ? "knative" : "router"
    container_concurrency = 8
    timeout               = "10s" # a pod has as long to end
    golden {
      path   = "/v1/models/tumors:predict"
      body   = jsonencode({ instances = [[1, 2]] })
      answer = jsonencode({ predictions = [3 * local.factor] })
    }
  }
}
