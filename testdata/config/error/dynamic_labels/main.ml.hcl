# labels is a list of one string, whatever else there is to iterate over.
dataset "set" {
  source = "d.csv"
  dynamic "split" {
    for_each = ["a"]
    labels   = toset([split.value]) # ERROR: Wrong number of labels
    content { fraction = 0.5 }
  }
}
dataset "object" {
  source = "d.csv"
  dynamic "split" {
    for_each = ["a"]
    labels   = { a = split.value } # ERROR: Wrong number of labels
    content { fraction = 0.5 }
  }
}
dataset "none" {
  source = "d.csv"
  dynamic "split" {
    for_each = null # ERROR: Wrong type
    labels   = [split.value]
    content { fraction = 0.5 }
  }
}
