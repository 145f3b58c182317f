check "unit" {
  command = ["python3", "-m", "pytest", "--junitxml=report.xml"]
  sources = ["src/**/*.py"]
  junit   = "report.xml"
  env     = { PYTHONHASHSEED = "0" }
  retries = 2
}
