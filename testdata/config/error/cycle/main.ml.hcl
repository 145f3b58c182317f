locals { through = check.a.passed }
check "a" { command = ["true", check.b.address] }            # ERROR: Blocks need each other
check "b" { command = ["true", tostring(local.through)] }
