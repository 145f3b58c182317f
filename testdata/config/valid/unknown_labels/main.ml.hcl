# A label that is known only after a run makes a block that is not known yet.
dataset "d" { source = "d.csv" }
training "t" { command = ["train"] }
validation "v" {
  model = training.t.model
  dynamic "slice" {
    for_each = ["x"]
    labels   = ["rows ${dataset.d.rows}"]
    content {
      column = "c"
      threshold "accuracy" { min = 0.5 }
    }
  }
}
