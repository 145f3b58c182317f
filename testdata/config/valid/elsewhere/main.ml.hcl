provider "sagemaker" { region = "eu" }

training "t" {
  command = ["python3", "train.py"]
  sagemaker {
    role = "x"
    pool "a" { size = 1 }
  }
  prometheus {}
  lifecycle {
    ignore_changes = [sagemaker.role]
  }
}
