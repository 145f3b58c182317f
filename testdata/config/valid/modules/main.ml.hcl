variable "regions" {
  type    = map(object({ rows = number, note = optional(string, "none") }))
  default = { de = { rows = 10 }, fr = { rows = 20, note = "x" } }
}

check "unit" { command = ["true"] }

module "region" {
  source     = "./region"
  for_each   = var.regions
  name       = each.key
  rows       = each.value.rows
  depends_on = [check.unit]
}

module "pair" {
  source = "./region"
  count  = 2
  name   = "pair${count.index}"
}

deployment "de" {
  model   = module.region["de"].model
  command = ["python3", "serve.py"]
}

locals {
  endpoints = { for k, m in module.region : k => m.model }
}

output "models" { value = local.endpoints }
output "second" { value = module.pair[1].model.version }

moved {
  from = training.de
  to   = module.region["de"].training.t
}
removed {
  from = dataset.gone
  lifecycle { destroy = false }
}
import {
  to = deployment.de
  id = "endpoint-${length(var.regions)}"
}
