"""The REST API does as its description says: schemathesis requests every operation by it, and against it.

No response is a failure of the server, and none has a status, a type or a document that the description lacks.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts.canaries import remember
from tests.parts.processes import plain_environment

from .conftest import LongLived

pytestmark = pytest.mark.long

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)
EXAMPLES = 3
"""Random requests of an operation; those at the bounds of its parameters come before them."""
LONGEST = 1500
OWN_TOKEN = "^/(personal_access_tokens|(groups|projects)/{id}/access_tokens)/self"
"""Operations that end the token by which they are requested."""
OWN_USER = "^/users/{id}"
"""Operations on user 1 who requests them: blocked or deleted, it could not go on."""
EXISTING = '[parameters]\n"path.id" = 1\n"path.repository_id" = 1\n"path.user_id" = 1\n'
"""Settings of schemathesis that have it name what exists."""


@pytest.mark.parametrize("names", ["whatever", "existing"])
def test_every_response_is_described(names: str, long_lived: LongLived, workplace: Path) -> None:
    server = long_lived({"workers": 1, "log_format": "json", "api": {"rate_limit": 0, "anonymous_rate_limit": 0}})
    server.json("group", "create", "team")
    server.json("project", "create", "team/app")
    for _ in range(30):  # requests for small numbers find other tokens than the one that is sent
        made = server.json("token", "create", "--user", "root", "--name", "api", "--scope", "api")
    settings = workplace / "schemathesis.toml"
    settings.write_text(EXISTING if names == "existing" else "")
    left_out = [OWN_TOKEN, OWN_USER] if names == "existing" else [OWN_TOKEN]
    ran = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("st")), "--config-file", str(settings)),
            *("run", f"{server.url}/api/v4/openapi.json", "--header", f"PRIVATE-TOKEN: {remember(made['token'])}"),
            *("--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", "1", "--checks", CHECKS),
            *("--workers", "1", "--continue-on-failure", "--no-shrink", "--suppress-health-check", "all"),
            *("--generation-database", ":memory:", "--warnings", "off", "--no-color"),
            *(word for pattern in left_out for word in ("--exclude-path-regex", pattern)),
        ],
        cwd=workplace,
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=LONGEST,
    )
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2_000:]
    assert "request_failed" not in (server.directory / "gateway.log").read_text()
