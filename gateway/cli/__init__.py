"""Command line: one module per noun, put together by `gateway.cli.main`.

Only this package names commands and options; everything below returns values and raises errors.
"""
