module "m" { # ERROR: Missing variable
  source = "./m"                  
  naem   = "x"                      # ERROR: Unknown variable
}
module "needs" { source = "./m" }   # ERROR: Missing variable
module "ok" {
  source = "./m"
  name   = "x"
}
module "each" {
  source   = "./m"
  for_each = toset(["a"])
  name     = each.key
}
output "a" { value = module.ok.nope }       # ERROR: Unknown output
output "b" { value = module.ok["a"].x }     # ERROR: Not a set of instances
output "c" { value = module.each.x }        # ERROR: Missing instance key
