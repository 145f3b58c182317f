module "b" { source = "./../b" }
