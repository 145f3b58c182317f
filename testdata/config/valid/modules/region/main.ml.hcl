ml { required_version = ">= 0.1, < 2" }

variable "name" { type = string }

variable "rows" {
  type    = number
  default = 5
  validation {
    condition     = var.rows > 0
    error_message = "rows must be positive."
  }
}

dataset "d" {
  source = "${path.module}/${var.name}.csv"
  expect "enough" { row_count = { min = var.rows } }
}

module "inner" {
  source = "./../inner"
  data   = dataset.d
}

training "t" {
  command = ["python3", "train.py"]
  inputs  = { train = module.inner.data }
}

output "model" { value = training.t.model }
