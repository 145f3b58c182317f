module "a" { source = "../a" } # ERROR: A module contains itself
