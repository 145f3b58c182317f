ml {
  backend "gcs" { bucket = "x" }      # ERROR: Unknown backend
}
check "c" { command = ["true"] }
