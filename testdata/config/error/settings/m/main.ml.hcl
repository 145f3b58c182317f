ml {
  required_version = "soon"         # ERROR: Invalid version constraint
  artifacts        = "x"            # ERROR: Setting outside of the root module
}
provider "local" {}                 # ERROR: Provider outside of the root module
check "c" { command = ["true"] }
