training "t" { command = ["python3", "train.py"] }
dataset "list" {
  for_each = ["a"]                  # ERROR: Invalid for_each
  source   = "d.csv"
}
dataset "numbers" {
  for_each = toset([1])             # ERROR: Invalid for_each
  source   = "d.csv"
}
dataset "control" {
  for_each = toset(["a\n"])         # ERROR: Invalid for_each
  source   = "d.csv"
}
dataset "late" {
  for_each = training.t.metrics     # ERROR: Not known at plan time
  source   = "d.csv"
}
dataset "negative" {
  count  = -1                       # ERROR: Invalid count
  source = "d.csv"
}
dataset "part" {
  for_each = toset(["a"])
  source   = "d.csv"
}
training "u" {
  command = ["python3", "train.py"]
  inputs  = { train = dataset.part["b"] } # ERROR: No such instance
}
