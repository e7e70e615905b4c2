"""The commands, one module per noun; `gateway.cli.main` puts them together."""
