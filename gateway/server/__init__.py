"""The HTTP server of a process, on Hypercorn and h11: what it uses of their internals, and what if these change.

A connection passes these files: `acceptor` accepts it if `connection_cap` has a place for it and completes the TLS
handshake, `http_server` keeps it, `http1` runs Hypercorn's protocol on it, `fast_connection` parses its request heads
by `request_head` (or `strict_connection` checks them by it and h11 parses them), `chunked_body` checks its chunks, and
`request_tasks` calls the app, with messages that `request_messages` holds and a `send` below which `client_connection`
finds the connection again, for `zerocopy` and for timeouts.

A large request body goes another way, if its handler accepts it: `large_body` waits until all that has arrived was
received, in the order in which `connection_reader`, h11 and `request_messages` hold it, and `direct_body` then reads
the rest into `buffers` (through the events above: 320 MB/s). Its states, and what each does with what happens
                 arrives               piece is full    client leaves      app ends         chunk is refused
    ordinary     to the reader         -                disconnect         it is dropped    400, close
    held         nothing               -                disconnect         released         400, close
    direct       to a buffer           reading pauses   ordinary           reading pauses   ordinary
    complete     nothing               -                unnoticed          close            -
  From `complete` the next `receive` returns to `ordinary`: h11 is told of the end, and the reader of what lies beyond.
  Held by tests/gateway/server/test_large_body.py and tests/security/test_left_clients.py.

What a connection waits for, and what ends the wait if the client has left or the app has ended
    a TLS handshake  a timeout, which begins when the connection is accepted
    a head           the timer of an idle connection
    a body           StalledClients aborts the connection, or the app ends and with it the response
    room for a part of a body, in `request_messages`
                     the app receives a message, responds completely, or ends
    the end of a response, before the next request of the connection is read
                     the app ends, or a write fails
    the end of a response to a half-closed client
                     the app ends, a write fails, or the client resets the connection
    a client that receives its response
                     StalledClients aborts the connection; once the server has closed it, a timer does
  Held by tests/security/test_left_clients.py and tests/security/test_slow_clients.py.

h11's internals, in `fast_connection` alone
    _reader          is set to our reader of heads, at the start and after `start_next_cycle`: an ambiguous head must be
                     refused from its bytes, and once is enough to parse it (12 % of a cached manifest)
    the buffer       is copied by `bytes`, and `_extract` removes the head from it
    Request(_parsed=True), Headers
                     take the parsed head over without a second check
    _cstate.states, _cstate.keep_alive, _writer
                     record a complete response that h11 has not built (15 %)
    _reader          is set to one that ends a body, which was read to its end without h11
  If any of them changes: `connection_type` compares a short dialogue on FastConnection with one on StrictConnection
  before a server starts. If they differ, the server logs `h11_not_recognised` and uses StrictConnection, in which h11
  parses what was checked, and Hypercorn's own stream. It refuses the same heads, and costs more.
  Held by tests/gateway/server/test_fast_connection.py, and by tests/security/test_plain_h11.py on a socket.

h11's internals, in `strict_connection`
    _process_error   records that chunks are refused
  If it changes: a body of such chunks ends the connection without a response.

h11, by its documented interface
    trailing_data, their_state, next_event, send, in `strict_connection`
                     see a head before h11 does, and have h11 record a response whose bytes are not sent
    send_with_data_passthrough, in `zerocopy`
                     takes a Data that has only a length, for files (docs: "sendfile")

Hypercorn, in `http1`
    TCPServer.run    is replaced: it would choose among protocols, and HTTP/2 must not be spoken, since Hypercorn
                     neither resets nor ends a stream whose body fails
    TCPServer.idle_task (restart, stop)
                     becomes a timer: a task for each request took 20 %
    TCPServer._close is replaced: a client that does not receive its response would hold the connection for ever
    TCPServer.protocol_send, _read_data
                     write in pieces that `unsent` counts, cork the last response of a connection, end a task that
                     waits to read, and respond to a client that has closed its own side alone
    TCPServer._task_group, _idle_timeout
                     are set and passed as its own `run` does
    H11Protocol.connection, can_read (EventWrapper._event), keep_alive_requests, _create_stream, _check_protocol
                     take our h11 connection, our permit to read and our stream, and offer no upgrade
    H11Protocol.stream_send, STREAM_ID, events Request, EndBody, RawData, Closed, StreamClosed
                     are what its own `_create_stream` and streams exchange
    HTTPStream.app_send, state (ASGIHTTPState), response, closed, scope
                     send head and body of a complete response in one write (40 %, with the record in h11 above)
    ConnectionState, parse_socket_addr, suppress_body
                     are called as Hypercorn calls them
  If any of them changes, a request fails or the strict heads are lost, so there is no fallback to plain Hypercorn.

Hypercorn, in `request_tasks`
    TaskGroup.spawn_app, _task_group
                     put our queue in place of Hypercorn's, whose reader may have ended
  If either changes, a request fails; tests/security/test_left_clients.py shows it.

asyncio, in `connection_reader`
    StreamReader.set_transport, feed_data, read, at_eof, exception
                     are called by its StreamReaderProtocol and by us; it pauses and resumes the transport it is given
  If any of them changes, a large body never switches, or its connection stalls; tests/gateway/server shows it.

asyncio, by its documented interface, in `direct_body`
    BufferedProtocol, get_protocol, set_protocol, pause_reading, resume_reading
                     have the transport read into our buffers for a while

asyncio, in `tls`
    sslproto.SSLProtocol.max_size
                     is reduced: each connection has a buffer of that size, half of what a silent client cost
  If it changes, a TLS connection takes more memory.

Hypercorn, in `http_server`
    WorkerContext.terminated
                     is set when the server stops: each response then ends its connection
    MAX_RECV
                     bounds one read
    Config           is documented; a Server sets the logs, the header `server`, the timeout and the limit of a head
  If any of them changes, the server fails to start or to stop; tests/gateway/server shows it.

Hypercorn, in `client_connection`
    the `send` of an app is a method of a stream, whose `send` is one of a protocol (`connection`), whose `send` is one
    of a server (`writer`, `send_lock`)
  If this chain is not recognised, the app gets no ClientConnection: files are read and sent as bodies, and no stalled
  client is aborted.

pyproject.toml caps both libraries at the minor versions that were read (hypercorn<0.19, h11<0.17). A new version is
taken by raising the cap and running tests/gateway/server, tests/security and tests/bench.
"""
