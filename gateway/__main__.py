"""`python -m gateway` is `registry-gateway`."""

from gateway.cli.main import main

main()
