ml {
  backend "s3" { bucket = "other" } # ERROR: Setting outside of the root module
}
check "c" { command = ["true"] }
