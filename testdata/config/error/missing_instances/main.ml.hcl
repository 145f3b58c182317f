variable "on" { default = true }
training "a" {
  count   = 0
  command = ["python3", "train.py"]
}
dataset "d" {
  for_each = toset(["east", "west"])
  source   = "d.csv"
}
training "used" {
  command = ["python3", "train.py"]
  params  = { v = var.on ? training.a[0].version : 0 } # ERROR: No such instance
}
training "key" {
  for_each = toset(["eest"])
  command  = ["python3", "train.py"]
  inputs   = { train = dataset.d[each.key] } # ERROR: No such instance
}
training "blocks" {
  command = ["python3", "train.py"]
  dynamic "smoke" {
    for_each = [training.a[0].version] # ERROR: No such instance
    content {}
  }
}
dataset "split" {
  source = "d.csv"
  split "train" { fraction = 1 }
}
training "split" {
  command = ["python3", "train.py"]
  inputs  = { train = dataset.split.split.trian } # ERROR: Unsupported attribute
}
