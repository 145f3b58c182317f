locals { keys = { for k, d in dataset.d : k => d.source } }
dataset "d" {
  for_each = local.keys               # ERROR: Reference cycle
  source   = "d.csv"
}
