provider "kubernetes" { context = "a" }
provider "kubernetes" { context = "b" }           # ERROR: Duplicate provider
provider "kubernetes" {
  alias   = "EU"                                  # ERROR: Invalid name
  context = "c"
}
provider "kubernetes" {                           # ERROR: Missing attribute
  alias = "us"
  qps   = 0                                       # ERROR: Invalid value
}
