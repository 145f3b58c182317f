# Many objects, each a block of its own.

variable "where" {}
variable "registry" {}
variable "namespace" {}
variable "image" {}
variable "configs" { type = number }
variable "deployments" { type = number }

ml {
  artifacts        = "oci://${var.registry}"
  default_provider = ["kubernetes"]
}

provider "kubernetes" {
  namespace = var.namespace
  image     = var.image
}

manifest "c" {
  for_each = toset([for i in range(var.configs) : format("c%04d", i)])
  objects = {
    apiVersion = "v1"
    kind       = "ConfigMap"
    metadata   = { name = each.key }
    data       = { n = each.key, settings = "threshold=0.5\nbatch=32\n" }
  }
}

manifest "d" {
  for_each = toset([for i in range(var.deployments) : format("d%04d", i)])
  objects = {
    apiVersion = "apps/v1"
    kind       = "Deployment"
    metadata   = { name = each.key }
    spec = {
      replicas = 0
      selector = { matchLabels = { app = each.key } }
      template = {
        metadata = { labels = { app = each.key } }
        spec     = { containers = [{ name = "main", image = var.image, command = ["sleep", "600"] }] }
      }
    }
  }
}
