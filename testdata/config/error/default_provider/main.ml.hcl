ml { default_provider = 3 }         # ERROR: Wrong type
