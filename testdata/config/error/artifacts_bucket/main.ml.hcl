ml {
  artifacts = "s3://bucket/ml" # ERROR: No store of artifacts
}
