check "c" { command = ["true"] }
variable "v" {
  default = 1
  validation {
    condition     = check.c.passed                # ERROR: Not known at plan time
    error_message = "x"
  }
}
