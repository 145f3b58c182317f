check "pre" {
  command = ["true"]
  precondition {
    condition     = 1 > 2                         # ERROR: Precondition failed
    error_message = "one is not more"
  }
  precondition {
    condition     = [1]                           # ERROR: Invalid condition
    error_message = "never"
  }
}
