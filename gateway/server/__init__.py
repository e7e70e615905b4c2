"""The HTTP server of a process, on Hypercorn and h11: what it uses of their internals, and what if these change.

A connection passes these files: `acceptor` accepts it and completes the TLS handshake, `connections` counts it against
the cap, `http1` runs Hypercorn's protocol on it, `h11_connection` and `h11_state` parse its requests by `request_head`,
and the app is called with a `send` below which `client_connection` finds it again, for `zerocopy` and for timeouts.

h11, in `h11_state` alone
    _reader          is set to our reader of heads, at the start and after `start_next_cycle`: an ambiguous head must be
                     refused from its bytes, and once is enough to parse it (12 % of a cached manifest)
    the buffer       is copied by `bytes`, and `_extract` removes the head from it
    Request(_parsed=True), Headers
                     take the parsed head over without a second check
    _cstate.states, _cstate.keep_alive, _writer
                     record a complete response that h11 has not built (15 %)
  If any of them changes: `connection_type` holds a short dialogue on FastConnection against one on h11 itself before a
  server starts. If they differ, the server logs `h11_not_recognised` and uses StrictConnection, which checks heads by
  `trailing_data` and otherwise is h11, and Hypercorn's own stream. It refuses the same heads, and costs more.
  Held by tests/gateway/server/test_h11_state.py, and by tests/security/test_plain_h11.py on a socket.

h11, by its documented interface
    send_with_data_passthrough with a Data that has only a length, for files (docs: "sendfile")

Hypercorn, in `http1`
    TCPServer.run    is replaced: it would choose among protocols, and HTTP/2 must not be spoken, since Hypercorn
                     neither resets nor ends a stream whose body fails
    TCPServer.idle_task (restart, stop)
                     becomes a timer: a task for each request took 20 %
    TCPServer._close is replaced: a client that does not receive its response would hold the connection for ever
    TCPServer.protocol_send, _read_data
                     cork the last response of a connection, and end a task that waits to read
    H11Protocol.connection, can_read (EventWrapper._event), keep_alive_requests, _create_stream, _check_protocol
                     take our h11 connection, our permit to read and our stream, and offer no upgrade
    HTTPStream.app_send, state, response, closed
                     send head and body of a complete response in one write (40 %, with the record in h11 above)
  If any of them changes, a request fails or the strict heads are lost, so there is no fallback to plain Hypercorn.

Hypercorn, in `client_connection`
    the `send` of an app is a method of a stream, whose `send` is one of a protocol (`connection`), whose `send` is one
    of a server (`writer`, `send_lock`)
  If this chain is not recognised, the app gets no ClientConnection: files are read and sent as bodies, and no stalled
  client is aborted.

pyproject.toml caps both libraries at the minor versions that were read (hypercorn<0.19, h11<0.17). A new version is
taken by raising the cap and running tests/gateway/server, tests/security and tests/bench.
"""
