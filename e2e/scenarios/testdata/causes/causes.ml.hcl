# Things that go wrong in a cluster, one at a time.

variable "where" {}
variable "registry" {}
variable "namespace" {}
variable "image" {}

variable "command" {
  type    = list(string)
  default = ["sh", "-c", "echo m > $ML_MODEL_DIR/m"]
}
variable "train_image" { default = null }
variable "memory" { default = "128Mi" }
variable "serve" {
  type    = list(string)
  default = []
}
variable "extra" {
  default     = ""
  description = "VERSION KIND of an object of no substance."
}

ml {
  artifacts        = "oci://${var.registry}"
  default_provider = ["kubernetes", "oci"]
}

provider "kubernetes" {
  namespace = var.namespace
  image     = var.image
}

training "t" {
  command = var.command
  image   = var.train_image
  resources {
    memory = var.memory
  }
  kubernetes {
    start_timeout = "40s"
  }
}

deployment "m" {
  for_each = toset(length(var.serve) > 0 ? ["x"] : [])
  model    = training.t.model
  command  = var.serve
  readiness {
    timeout = "40s"
  }
}

manifest "extra" {
  for_each = toset(var.extra == "" ? [] : ["x"])
  yaml     = "{apiVersion: ${split(" ", var.extra)[0]}, kind: ${split(" ", var.extra)[1]}, metadata: {name: x}}"
}
