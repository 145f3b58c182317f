check "a" { command = ["true", check.a.address] }            # ERROR: Blocks need each other
