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
check "lengths" {
  count   = true                    # ERROR: Invalid count
  command = ["x"]
}
check "less" {
  count   = -1                      # ERROR: Invalid count
  command = ["x"]
}
check "part" {
  count   = 1.5                     # ERROR: Invalid count
  command = ["x"]
}
check "huge" {
  count   = 1e30                    # ERROR: Invalid count
  command = ["x"]
}
check "null" {
  count   = null                    # ERROR: Invalid count
  command = ["x"]
}
check "rows" {
  count   = dataset.d.rows          # ERROR: Not known at plan time
  command = ["x"]
}
check "keys" {
  for_each = { (dataset.d.digest) = 1 } # ERROR: Not known at plan time
  command  = ["x"]
}
check "nothing" {
  for_each = null                   # ERROR: Invalid for_each
  command  = ["x"]
}
check "itself" {
  for_each = check.itself           # ERROR: Reference cycle
  command  = ["x"]
}
dataset "d" { source = "d.csv" }
