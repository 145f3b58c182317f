# A gate whose bounds only a run knows would be approved blindly.
training "t" { command = ["train"] }
validation "open" { # ERROR: A validation needs a threshold
  model = training.t.model
  dynamic "threshold" {
    for_each = training.t.metrics
    labels   = [threshold.key]
    content { min = threshold.value }
  }
}
