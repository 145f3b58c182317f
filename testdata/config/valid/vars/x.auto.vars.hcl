a = "from a file"
b = 3
