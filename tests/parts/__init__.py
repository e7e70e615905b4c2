"""The parts a test is put together from: images, upstreams that behave or lie, clients, and our own server.

Every part listens on 127.0.0.1 alone, takes a free port, and leaves nothing behind when it is closed.
"""
