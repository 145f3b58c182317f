variable "a" { type = string }
variable "b" { type = number }
variable "c" {}

check "unit" { command = ["true", var.a, tostring(var.b), var.c] }
