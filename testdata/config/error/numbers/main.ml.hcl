locals { a = 1e400 }  # ERROR: Number out of range
