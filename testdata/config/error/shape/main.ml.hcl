loose = 1                           # ERROR: Attribute outside of a block
trainig "t" {}                      # ERROR: Unknown block
training {}                         # ERROR: Wrong number of labels
variable "a" "b" {}                 # ERROR: Wrong number of labels
training "Churn" {}                 # ERROR: Invalid name
output "Out" {}                     # ERROR: Invalid name
locals {
  inner {}                          # ERROR: Unknown block
}
output "o" { valu = 1 }             # ERROR: Unknown attribute # ERROR: Missing attribute
variable "v" {
  other {}                          # ERROR: Unknown block
  default = 1
}
variable "ref" { default = local.x } # ERROR: Not a plain value
variable "type" { type = strin }    # ERROR: Invalid type
variable "fit" {
  type    = number
  default = "x"                     # ERROR: Wrong type
}
variable "valid" {
  default = 1
  validation {                      # ERROR: Missing attribute
    condition = true
  }
}
output "sens" {
  value     = 1
  sensitive = "x"                   # ERROR: Not a plain value
}
module "none" {}                    # ERROR: Missing attribute
module "registry" { source = "acme/m" } # ERROR: Invalid module source
module "out" { source = "../x" }    # ERROR: Module outside of the project
module "gone" { source = "./nope" } # ERROR: Module not found
module "empty" { source = "./empty" }
module "git" { source = "git::https://example.com/r.git" } # ERROR: Invalid module source
module "get" { source = "git::https://example.com/r.git?ref=v1" } # ERROR: Module not fetched
module "block" {
  source = "./empty"
  inner {}                          # ERROR: Unknown block
}
check "meta" {
  command    = ["true"]
  depends_on = check.other          # ERROR: A list of references is needed
  lifecycle {
    prevent_destory = true          # ERROR: Unknown attribute
    ignore_changes  = [comand]      # ERROR: Unknown attribute
  }
}
check "meta2" {
  command    = ["true"]
  depends_on = ["check.meta"]       # ERROR: A list of references is needed
  lifecycle {
    prevent_destroy = var.v         # ERROR: Not a plain value
    ignore_changes  = 3             # ERROR: Invalid ignore_changes
  }
}
