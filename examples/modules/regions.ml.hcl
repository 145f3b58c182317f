# Demand for electricity, one model per region.

variable "regions" {
  type = map(object({
    max_error = number
    serve     = optional(bool, false)
  }))
  default = {
    north = { max_error = 3, serve = true }
    south = { max_error = 4 }
  }
}

module "region" {
  source    = "./region"
  for_each  = var.regions
  data      = "data/${each.key}.csv"
  max_error = each.value.max_error
  serve     = each.value.serve
}

output "errors" {
  value       = { for name, region in module.region : name => region.error }
  description = "Mean absolute error in MW by region."
}

output "endpoints" {
  value       = { for name, region in module.region : name => region.endpoint if region.endpoint != null }
  description = "Regions that are served."
}
