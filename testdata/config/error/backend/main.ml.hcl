ml {
  backend "s3" {
    bucket     = "ml-state"
    access_key = "AKIA"            # ERROR: Credentials in a file
  }
  backend "kubernetes" { name = "x" } # ERROR: Duplicate block
}
module "m" { source = "./m" }
notifier "n" {
  type = "webhook"
  url  = "http://127.0.0.1:9"
}
