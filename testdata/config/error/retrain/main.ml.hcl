# A retrain block that would never ask, or hold nothing back, is a mistake.
training "minute" {
  command = ["train"]
  retrain { schedule = "61 * * * *" } # ERROR: This schedule cannot be read
}
training "zone" {
  command = ["train"]
  retrain {
    schedule  = "0 3 * * 1" # ERROR: This schedule cannot be read
    time_zone = "Mars/Olympus"
  }
}
training "never" {
  command = ["train"]
  retrain { schedule = "0 0 31 2 *" } # ERROR: This schedule never comes
}
training "budget" {
  command = ["train"]
  retrain {
    budget { # ERROR: This budget holds nothing back
      runs = 1
      per  = "0s"
    }
  }
}
