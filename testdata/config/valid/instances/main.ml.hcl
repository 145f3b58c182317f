locals {
  parts = toset(["a", "b"])
  used  = local.deep.x
  deep  = { x = dataset.part["a"].digest }
}

dataset "part" {
  for_each = local.parts
  source   = "data/${each.key}.csv"
}

training "one" {
  for_each = local.parts
  command  = ["python3", "train.py"]
  inputs   = { train = dataset.part[each.key] }
  params   = { of = length(dataset.part), digest = local.used }
}

check "n" {
  count   = 3
  command = ["true", tostring(count.index)]
}

training "all" {
  depends_on = [check.n]
  command    = ["python3", "train.py"]
  inputs     = { for k, d in dataset.part : k => d }
  params     = { first = check.n[0].passed, all = alltrue(check.n[*].passed) }
}

deployment "d" {
  for_each = local.parts
  provider = each.key == "a" ? "kubernetes.eu" : "local"
  model    = training.one[each.key].model
  command  = ["python3", "serve.py"]
}

provider "kubernetes" {
  alias   = "eu"
  context = "kind-eu"
}
provider "kubernetes" { context = "kind" }
