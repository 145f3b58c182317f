check "unit" { # ERROR: Provider not configured
  command  = ["true"]
  provider = "kubernetes"
}
