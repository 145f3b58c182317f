variable "regions" {
  type    = map(object({ rows = optional(number, 10) }))
  default = { de = {}, fr = { rows = 20 } }
}

dataset "d" {
  for_each = var.regions
  source   = "${each.key}.csv"
  split "train" { fraction = 0.8 }
  split "test" { fraction = 0.2 }
}

training "chain" {
  for_each = dataset.d
  command  = ["python3", "train.py"]
  inputs   = { train = each.value.split.train }
}

training "renamed" {
  for_each = { for k, d in dataset.d : upper(k) => d.split.train }
  command  = ["python3", "train.py"]
  inputs   = { train = each.value }
}

training "pair" {
  for_each = { a = training.chain["de"], b = training.chain["fr"] }
  command  = ["python3", "train.py"]
  params   = { warm = each.value.model }
}

check "split" {
  for_each = dataset.d["de"].split
  command  = ["python3", "look.py", each.key]
}

check "count" {
  count   = length(dataset.d) + length(dataset.d["de"].split)
  command = ["true"]
}

module "region" {
  source   = "./region"
  for_each = dataset.d
  data     = each.value
}

module "static" {
  source   = "./region"
  for_each = toset(module.region["de"].names)
  data     = dataset.d[each.key]
}

check "outputs" {
  for_each = toset(flatten([for m in module.region : m.names]))
  command  = ["true", each.value]
}

check "calls" {
  for_each = module.region
  command  = ["true", each.value.names[0]]
}

notifier "team" { type = "log" }

check "notifier" {
  for_each = toset([notifier.team.type, notifier.team.address])
  command  = ["true", each.value]
}
