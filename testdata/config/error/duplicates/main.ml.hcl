variable "v" { default = 1 }
variable "v" { default = 2 }        # ERROR: Duplicate variable
locals { l = 1 }
locals { l = 2 }                    # ERROR: Duplicate local
output "o" { value = 1 }
output "o" { value = 2 }            # ERROR: Duplicate output
check "c" { command = ["true"] }
check "c" { command = ["true"] }    # ERROR: Duplicate block
check "a_b" { command = ["true"] }
check "a-b" { command = ["true"] }  # ERROR: Names too alike
module "m" { source = "./m" }
module "m" { source = "./m" }       # ERROR: Duplicate module
ml {}
ml {}                               # ERROR: Duplicate block
check "life" {
  command = ["true"]
  lifecycle {}
  lifecycle {}                      # ERROR: Duplicate block
}
