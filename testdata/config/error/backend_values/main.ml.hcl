variable "b" { default = "x" }
ml {
  backend "s3" {                      # ERROR: Missing attribute
    prefix   = "a/../b"               # ERROR: Invalid value
    region   = var.b                  # ERROR: Not a plain value
    endpoint = "https://u:p@example.com" # ERROR: Invalid value
    bukcet   = "x"                    # ERROR: Unknown attribute
  }
}
check "c" { command = ["true"] }
