# A model that multiplies the sum of a row by a factor, with a server beside each version that explains its predictions.

variable "registry" {}
variable "namespace" {}
variable "image" {}
variable "base" {}

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
  kserve {
    runtime = "continuo-sklearn"
    explainer {
      image   = var.image
      command = ["python3", "-u", "-c", file("explain.py")]
    }
  }
}
