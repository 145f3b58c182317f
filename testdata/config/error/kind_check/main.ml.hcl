check "none" {}                     # ERROR: A command is needed
check "empty" { command = [] }      # ERROR: The command is empty
check "typo" {
  comand = ["true"]                 # ERROR: Unknown attribute
}
check "nul" { command = ["a\u0000"] } # ERROR: The command cannot be run
check "env" {
  command = ["true"]
  env     = { "A=B" = "x" }         # ERROR: Invalid environment variable
}
check "string" { command = "true" } # ERROR: Wrong type
