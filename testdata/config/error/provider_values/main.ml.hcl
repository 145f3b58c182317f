# What a provider is called and configured with is known and shown.
check "secret" {
  command  = ["true"]
  provider = sensitive("local") # ERROR: Sensitive value as a name
}
provider "kubernetes" { # ERROR: Not known at plan time
  context = check.secret.passed ? "a" : "b"
}
check "null" {
  for_each = toset(["a", null]) # ERROR: Invalid for_each
  command  = ["true"]
}
