check "c" { command = ["true"] }
ml { default_provider = check.c.address } # ERROR: Not known at plan time
