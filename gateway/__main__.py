"""`python -m gateway` is `registry-gateway`."""

from gateway.cli import main

main()
