# What is wrong is said where it is wrong, and not again by all who use it.
locals {
  keys = toset(jsondecode("[")) # ERROR: Error in function call
}
check "c" {
  for_each = local.keys
  command  = ["true"]
}
check "n" {
  count   = length(local.keys)
  command = ["true"]
}
