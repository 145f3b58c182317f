training "t" { command = ["python3", "train.py"] }
output "version" { value = training.t.version }
