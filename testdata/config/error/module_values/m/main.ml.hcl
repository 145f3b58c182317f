variable "rows" {
  type = number
  validation {
    condition     = var.rows > 0    # ERROR: Invalid value for a variable
    error_message = "rows must be positive."
  }
}
check "c" { command = ["true", tostring(var.rows)] }
