"""Inside a hospital: ingest, de-identify, store, index, search, release, guards, sketch."""
