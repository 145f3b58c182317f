variable "missing" {}               # ERROR: Missing variable
variable "nul" {                    # ERROR: Missing variable
  nullable = false
}
variable "num" { type = number }    # ERROR: Wrong type
