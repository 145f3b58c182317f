variable "secret" {
  default   = "hunter2"
  sensitive = true
}
dataset "keys" {
  for_each = toset([var.secret])                  # ERROR: Sensitive value as a key
  source   = "d.csv"
}
dataset "count" {
  count  = length(var.secret)                     # ERROR: Sensitive value as a key
  source = "d.csv"
}
