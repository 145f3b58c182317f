dataset "d" { source = "d.csv" }
ml { default_provider = [dataset.d.path] } # ERROR: Not known at plan time
