# A model that multiplies the sum of a row by a factor. One InferenceService holds its versions, and a Gateway divides the requests between
# them: nothing of ml's in the way of a request.

variable "registry" {}
variable "namespace" {}
variable "image" {}
variable "base" {}
variable "gateway" {}

ml {
  artifacts        = "oci://${var.registry}"
  default_provider = ["kserve", "kubernetes", "oci"]
}

provider "kubernetes" {
  namespace = var.namespace
  image     = var.image
}

provider "kserve" {
  namespace     = var.namespace
  image         = var.image
  modelcar_base = var.base
}

locals {
  factor = 1
  fails  = "nowhere" # or to "outside": requests that come through the Gateway
}

training "tumors" {
  command = ["python3", "train.py"]
  params  = { factor = local.factor, fails = local.fails }
}

deployment "tumors" {
  model   = training.tumors.model
  command = ["python3", "-u", "-c", file("serve.py")]
  drain   = "5s"
  rollout {
    strategy = "canary"
    steps    = [20, 50, 100]
    interval = "8s"
  }
  kserve {
    canary = "spec"
    route {
      gateway   = var.gateway
      hostnames = ["${var.namespace}.example.test"]
    }
    golden {
      path   = "/v1/models/tumors:predict"
      body   = jsonencode({ instances = [[1, 2]] })
      answer = jsonencode({ predictions = [3 * local.factor] })
    }
  }
}
