pipeline "none" {} # ERROR: Missing attribute

pipeline "many" { package = "pipelines/*.yaml" } # ERROR: A pipeline is one file

pipeline "out" { package = "../train.yaml" } # ERROR: This file is not in the project

pipeline "abs" { package = "/train.yaml" } # ERROR: This file is not in the project

pipeline "source" { package = "train.py" } # ERROR: This is no compiled pipeline

pipeline "command" {
  package = "train.yaml"
  command = ["true"] # ERROR: Unknown attribute
}
