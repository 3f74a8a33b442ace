"""De-identification of what is released: nothing yet."""
