"""Sign-in at a gateway: accounts of its own or an OpenID provider, sessions, roles, their log."""
