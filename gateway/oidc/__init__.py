"""OpenID Connect: issuers of ID tokens, their keys, and what a verified token maps to.

An issuer is trusted for what it signs, and for nothing else: which of its tokens are accepted, and for what, the rules
of the settings say. What it publishes is fetched by `issuer`, through the address checks of every request that leaves
this server, and kept by `key_set`. `jws` reads a token and its signature, `claims` decides whether its claims hold now,
and `rules` to whom they map. All of that is decided without a database; the rooms above know users and projects.
"""
