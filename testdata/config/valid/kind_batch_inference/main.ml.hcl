dataset "d" { source = "d.csv" }

training "t" { command = ["python3", "train.py"] }

batch_inference "b" {
  command    = ["python3", "predict.py"]
  model      = training.t.model
  input      = dataset.d
  output     = "out/predictions.jsonl"
  batch_size = 500
}
