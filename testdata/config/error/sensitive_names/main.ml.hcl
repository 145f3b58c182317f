variable "secret" {
  default   = "hunter2"
  sensitive = true
}
dataset "label" {
  source = "d.csv"
  dynamic "split" {
    for_each = [1]
    labels   = [var.secret]                       # ERROR: Sensitive value as a name
    content { fraction = 0.5 }
  }
}
output "shown" { value = var.secret }             # ERROR: Sensitive output
