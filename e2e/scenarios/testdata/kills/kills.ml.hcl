# A small life of a model, for being killed in.

variable "where" {}
variable "registry" {}
variable "namespace" {}
variable "image" {}
variable "pull_secrets" { default = [] }

ml {
  artifacts        = "oci://${var.registry}"
  default_provider = ["kubernetes", "oci"]
}

provider "kubernetes" {
  namespace          = var.namespace
  image              = var.image
  image_pull_secrets = var.pull_secrets
}

dataset "d" {
  source = "data.csv"
}

training "t" {
  command = ["python3", "train.py"]
  sources = ["train.py"]
  inputs  = { data = dataset.d }
}

validation "t" {
  model = training.t.model
  threshold "rows" { min = 1 }
}

deployment "m" {
  model   = validation.t.model
  command = ["python3", "serve.py"]
  sources = ["serve.py"]
}
