"""Status line: its reason phrase is the sentence of a refusal, for clients that print the status and read no body.

docker, podman and skopeo print the status line of a response with 5xx, and containerd that of every refused request,
also of HEAD, to whose response no body belongs. Others ignore the phrase, as RFC 9112, section 4, has them do.
"""

REASON_PHRASE = "reason_phrase"
"""Key of the message `http.response.start` under which an app gives the phrase, a str; without it there is none."""
PHRASE_LIMIT = 256
"""Characters of a phrase. nginx holds all headers of a response in 4 KiB by default."""
_PRINTABLE = bytes(code if 0x20 <= code < 0x7F else ord("?") for code in range(256))


def status_line(status: int, phrase: str = "") -> bytes:
    """The first line of a response. `phrase` may hold what a client has sent: all but printable ASCII becomes `?`."""
    if len(phrase) > PHRASE_LIMIT:
        phrase = f"{phrase[: PHRASE_LIMIT - 3]}..."
    return b"HTTP/1.1 %d %b\r\n" % (status, phrase.encode("ascii", "replace").translate(_PRINTABLE))
