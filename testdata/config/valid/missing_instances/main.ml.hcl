variable "on" { default = false }
locals { model = var.on ? training.a[0].model : null }

training "a" {
  count   = var.on ? 1 : 0
  command = ["python3", "train.py"]
}

module "m" {
  count  = var.on ? 1 : 0
  source = "./m"
}

training "b" {
  command = ["python3", "train.py"]
  params = {
    local   = local.model
    model   = var.on ? training.a[0].model : null
    version = length(training.a) > 0 ? training.a[0].version : 1
    module  = var.on ? module.m[0].version : null
    tried   = try(training.a[0].version, training.a["nope"].version, 2)
    can     = can(training.a[0].version)
    one     = one(training.a[*].version)
  }
  dynamic "smoke" {
    for_each = var.on ? [training.a[0].version] : []
    content { rows = smoke.value }
  }
}
