variable "secret" {
  type      = string
  default   = "hunter2"
  sensitive = true
}

notifier "hook" {
  type   = "webhook"
  url    = "https://hooks.example.com/${var.secret}"
  secret = var.secret
}

output "hook" {
  value     = "https://hooks.example.com/${var.secret}"
  sensitive = true
}
