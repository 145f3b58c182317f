dataset "neither" {}                # ERROR: A dataset needs a source
dataset "both" {
  source  = "d.csv"
  command = ["make"]                # ERROR: A dataset has a source or a command, not both
}
dataset "splits" {
  source = "d.csv"
  split "a" { fraction = 0.75 }     # ERROR: Splits take more than all rows
  split "b" { fraction = 0.75 }
}
dataset "range" {
  source = "d.csv"
  column "age" { range = [1] }      # ERROR: A range has two ends
}
dataset "values" {
  source = "d.csv"
  format = "xls"                    # ERROR: Invalid value
  column "x" { type = "sting" }     # ERROR: Invalid value
  split "a" { fraction = 1.5 }      # ERROR: Invalid value
  split "b" {}                      # ERROR: Missing attribute
  expect "old" { freshness = { column = "at", max = "yesterday" } } # ERROR: Invalid value
}
