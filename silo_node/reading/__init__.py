"""Documents out of files: the walk, records, formats."""
