variable "data" {}
locals { names = ["de", "fr"] }
training "t" {
  command = ["python3", "train.py"]
  inputs  = { train = var.data.split.train }
}
output "names" { value = local.names }
output "model" { value = training.t.model }
