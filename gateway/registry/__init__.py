"""The native registry store: repositories of projects, which are pushed to and pulled from."""
