"""The commands, one module per noun; `gateway.cli` puts them together."""
