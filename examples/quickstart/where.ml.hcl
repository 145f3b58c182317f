# Where all this runs: on this machine, or the same files on a cluster.

variable "where" {
  default     = "local"
  description = "local, kubernetes or kserve."
}

variable "registry" {
  default     = "registry.example.com/tumors"
  description = "Registry that this machine and the cluster reach, for data, models and images."
}

variable "namespace" {
  default     = "default"
  description = "Namespace of the cluster."
}

variable "image" {
  default     = "python:3.12-slim"
  description = "Image that commands run in there."
}

ml {
  artifacts = var.where == "local" ? ".ml/artifacts" : "oci://${var.registry}"
  default_provider = {
    local      = ["local"]
    kubernetes = ["kubernetes", "oci"]
    kserve     = ["kserve", "kubeflow", "kubernetes", "oci"]
  }[var.where]
}

provider "kubernetes" {
  namespace = var.namespace
  image     = var.image
}
