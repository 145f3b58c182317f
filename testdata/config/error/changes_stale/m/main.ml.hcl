check "c" { command = ["true"] }
