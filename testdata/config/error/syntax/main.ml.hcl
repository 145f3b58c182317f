check "c" {
  command = ["true"
}
