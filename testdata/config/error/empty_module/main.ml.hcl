module "empty" { source = "./empty" } # ERROR: Empty module
