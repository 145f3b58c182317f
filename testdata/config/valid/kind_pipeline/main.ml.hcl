dataset "tumors" { source = "data/wdbc.csv" }

check "components" { command = ["python3", "-m", "pytest", "pipelines"] }

pipeline "train" {
  depends_on = [check.components]
  package    = "pipelines/train.yaml"
  params     = { rows = 300, data = dataset.tumors.digest, rates = [0.1, 0.2] }
  experiment = "nightly"
  root       = "s3://bucket/pipelines"
  cache      = false
  timeout    = "2h"
  retries    = 1
}

output "run" { value = pipeline.train.run }
