"""The page that shows a hospital its own silo."""
