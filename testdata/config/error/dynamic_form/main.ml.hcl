# The forms that a dynamic block does not have.
dataset "iterator" {
  source = "d.csv"
  dynamic "split" {
    for_each = ["a"]
    iterator = "item" # ERROR: Invalid dynamic block
    labels   = [split.value]
    content { fraction = 0.5 }
  }
}
dataset "contents" {
  source = "d.csv"
  dynamic "split" {
    for_each = ["a"]
    labels   = [split.value]
    content { fraction = 0.5 }
    content { fraction = 0.5 } # ERROR: Invalid dynamic block
  }
}
dataset "attribute" {
  source = "d.csv"
  dynamic "split" {
    for_each = ["a"]
    labels   = [split.value]
    fraction = 0.5 # ERROR: Invalid dynamic block
    content {}
  }
}
dataset "label" {
  source = "d.csv"
  dynamic "split" {
    for_each = ["a"]
    labels   = [{ a = 1 }] # ERROR: Wrong type
    content { fraction = 0.5 }
  }
}
training "once" {
  command = ["train"]
  dynamic "smoke" { # ERROR: Duplicate block
    for_each = [1, 2]
    content { rows = smoke.value }
  }
}
