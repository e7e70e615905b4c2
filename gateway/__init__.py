"""The gateway: clients and their requests, protocols, and what is recorded about them."""
