ml {
  required_version = ">= 9"         # ERROR: Another version is required
  parallelism      = 0              # ERROR: Invalid value
  default_provider = ["local", "kubernets"] # ERROR: Unknown provider
  artifacts        = []             # ERROR: Wrong type
  artifcats        = ""             # ERROR: Unknown attribute
}
module "m" { source = "./m" }
provider "kubernets" {}             # ERROR: Unknown provider
