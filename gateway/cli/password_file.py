"""Password files that are named on the command line."""

from gateway.cli.input_file import InputFile
from gateway.cli.refusals import Refused


def read_password(file: InputFile | None) -> str | None:
    """Read a password file, without the end of its last line; None if no file is given. Raises Refused."""
    if file is None:
        return None
    try:
        password = file.read_text().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise Refused(f"password file {file} cannot be read ({error.strerror}): give another one") from error
    except UnicodeDecodeError as error:
        raise Refused(f"password file {file} is not UTF-8: write the password into it as text") from error
    if not password:
        raise Refused(f"password file {file} is empty: write the password into it")
    return password
