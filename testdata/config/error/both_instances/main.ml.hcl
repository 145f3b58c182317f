dataset "d" {
  for_each = toset(["a"])
  count    = 2                      # ERROR: for_each and count exclude each other
  source   = "d.csv"
}
module "m" {
  source   = "./m"
  for_each = toset(["a"])
  count    = 2                      # ERROR: for_each and count exclude each other
}
