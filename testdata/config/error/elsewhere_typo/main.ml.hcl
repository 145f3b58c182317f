training "t" {
  command = ["python3", "train.py"]
  sagemakr {}                       # ERROR: Unknown block
}
