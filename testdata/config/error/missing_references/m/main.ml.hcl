check "c" { command = ["x"] }
