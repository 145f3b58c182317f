module "m" {
  source = "./m"
  rows   = "many"                   # ERROR: Wrong type
}
module "zero" {
  source = "./m"
  rows   = 0
}
