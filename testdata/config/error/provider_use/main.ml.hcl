check "unknown" {
  command  = ["true"]
  provider = "lokal"                              # ERROR: Unknown provider
}
check "alias" {
  command  = ["true"]
  provider = "kubernetes.eu"                      # ERROR: Unknown provider
}
check "kind" {
  command  = ["true"]
  provider = "kserve"                             # ERROR: Provider does not serve this kind
}
check "type" {
  command  = ["true"]
  provider = ["local"]                            # ERROR: Wrong type
}
check "late" {
  command  = ["true"]
  provider = "${check.type.tests}"                 # ERROR: Not known at plan time
}
