"""What the web pages of gateway and silo share: middleware, cookies, refusals, the built page."""
