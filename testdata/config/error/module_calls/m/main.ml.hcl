variable "name" { type = string }
output "x" { value = var.name }
