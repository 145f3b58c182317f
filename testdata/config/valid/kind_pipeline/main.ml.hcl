dataset "tumors" { source = "data/wdbc.csv" }

check "compiled" { command = ["kfp", "dsl", "compile", "--py", "train.py", "--output", "pipelines/train.yaml"] }

pipeline "train" {
  depends_on = [check.compiled]
  package    = "pipelines/train.yaml"
  params     = { rows = 300, data = dataset.tumors.digest, rates = [0.1, 0.2] }
  experiment = "nightly"
  root       = "s3://bucket/pipelines"
  cache      = false
  timeout    = "2h"
  retries    = 1
}

output "run" { value = pipeline.train.run }
