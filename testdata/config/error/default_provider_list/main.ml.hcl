ml { default_provider = [[]] }      # ERROR: Wrong type
