training "t" {
  command  = ["python3", "train.py"]
  provider = "sagemaker"            # ERROR: Provider not available
}
training "u" {
  command = ["python3", "train.py"]
  provider = "sagemakr"             # ERROR: Unknown provider
}
