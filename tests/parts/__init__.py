"""Parts of a test: images, upstreams that behave or lie, clients, and the server under test.

Every part listens on 127.0.0.1 only, takes a free port, and leaves nothing behind when it is closed.
"""
