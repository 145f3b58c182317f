# A region: its data, its model, its gate, and a server if one is wanted.

variable "data" {
  type        = string
  description = "CSV file, from the project folder."
}

variable "max_error" {
  type        = number
  description = "Greatest mean absolute error in MW that may go out."
  validation {
    condition     = var.max_error > 0
    error_message = "max_error is a positive number of MW."
  }
}

variable "serve" {
  type    = bool
  default = false
}

dataset "demand" {
  source = var.data
  target = "demand"
  column "hour" {
    type  = "integer"
    range = [0, 23]
  }
  expect "no_nulls" { not_null = ["*"] }
  expect "enough" { row_count = { min = 200 } }
  split "train" { fraction = 0.8 }
  split "test" { fraction = 0.2 }
}

training "demand" {
  command = ["python3", "region/demand.py", "train"]
  inputs  = { train = dataset.demand.split.train }
  params  = { comfort = [15, 22] }
}

validation "demand" {
  model   = training.demand.model
  inputs  = { test = dataset.demand.split.test }
  command = ["python3", "region/demand.py", "validate"]
  threshold "mae" { max = var.max_error }
}

deployment "demand" {
  count   = var.serve ? 1 : 0
  model   = validation.demand.model
  command = ["python3", "region/demand.py", "serve"]
}

output "error" { value = validation.demand.metrics["mae"] }
output "endpoint" { value = one(deployment.demand[*].endpoint) }
