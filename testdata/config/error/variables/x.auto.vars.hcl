stray = 1
missing = upper("x")
block {}
