"""Ask and merge: fan-out with deadlines, merge in clear or of sealed scores, evidence."""
