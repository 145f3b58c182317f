# What is not known before anything runs names no instance and no block.
dataset "d" { source = "d.csv" }
check "set" {
  for_each = toset([tostring(dataset.d.rows)]) # ERROR: Not known at plan time
  command  = ["true"]
}
check "pair" {
  for_each = toset(["a", dataset.d.digest]) # ERROR: Not known at plan time
  command  = ["true"]
}
check "objects" {
  for_each = toset([{ a = 1 }]) # ERROR: Invalid for_each
  command  = ["true"]
}
