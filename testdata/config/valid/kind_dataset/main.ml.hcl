dataset "raw" {
  source    = "data/*.csv"
  format    = "csv"
  id        = "row"
  timestamp = "at"
  column "age" {
    type     = "integer"
    range    = [0, 120]
    nullable = false
  }
  expect "fresh" {
    severity  = "warn"
    freshness = { column = "at", max = "7d" }
    row_count = { min = 10 }
    mean      = { age = { min = 20, max = 60 } }
  }
  dynamic "split" {
    for_each = { train = 0.8, test = 0.2 }
    labels   = [split.key]
    content {
      fraction = split.value
      seed     = 7
    }
  }
}

dataset "clean" {
  command = ["python3", "clean.py"]
  inputs  = { raw = dataset.raw, train = dataset.raw.split.train }
  timeout = "1h30m"
}
