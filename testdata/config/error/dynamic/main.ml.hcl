dataset "form" {
  source = "d.csv"
  dynamic {}                                      # ERROR: Invalid dynamic block
  dynamic "split" {}                              # ERROR: Invalid dynamic block
  dynamic "splits" {                              # ERROR: Unknown block
    for_each = []
    content {}
  }
  dynamic "split" {                               # ERROR: Wrong number of labels
    for_each = [1]
    content { fraction = 0.5 }
  }
  dynamic "split" {
    for_each = 5                                  # ERROR: Wrong type
    labels   = ["x"]
    content { fraction = 0.5 }
  }
  dynamic "split" {                               # ERROR: Duplicate block
    for_each = [1, 2]
    labels   = ["same"]
    content { fraction = 0.1 }
  }
}
dataset "both" {
  source = "d.csv"
  split "a" { fraction = 0.1 }
  dynamic "split" {                               # ERROR: Duplicate block
    for_each = { a = 0.2 }
    labels   = [split.key]
    content { fraction = split.value }
  }
}
