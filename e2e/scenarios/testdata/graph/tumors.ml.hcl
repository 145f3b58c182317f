# A model that multiplies the sum of a row by a factor, served by KServe alone: no router of ml's in the way of a request.

variable "registry" {}
variable "namespace" {}
variable "image" {}
variable "base" {}
variable "runtime" { default = "continuo-sklearn" }

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
  modelcar_base = var.base
}

locals { factor = 1 }

training "tumors" {
  command = ["python3", "train.py"]
  params  = { factor = local.factor }
}

deployment "tumors" {
  model  = training.tumors.model
  format = "sklearn"
  rollout {
    strategy = "canary"
    steps    = [50, 100]
    interval = "3s"
  }
  kserve {
    runtime = var.runtime
    canary  = "graph"
    transformer {
      image   = var.image
      command = ["python3", "-u", "-c", file("transform.py")]
    }
    logger {
      url  = "http://keeper.${var.namespace}:8080"
      mode = "all"
    }
    graph {
      node "root" {
        type = "Ensemble"
        step { name = "first" }
        step { name = "second" }
      }
    }
    golden {
      path   = "/v1/models/tumors:predict"
      body   = jsonencode({ instances = [[1, 2]] })
      answer = jsonencode({ first = { predictions = [6 * local.factor] } }) # the transformer doubles
    }
  }
}
