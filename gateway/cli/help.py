"""`help`: lists the pages of the documentation, and prints one.

It needs no settings and no data folder, and imports none of the other commands, so that it responds at once.
"""

import json
import sys
from typing import Annotated

import typer

from gateway.cli.plain_options import JsonOption, UnusedConfig, UnusedData, plain_app
from gateway.help.pages import TopicUnknown, get_page, list_pages

app = plain_app()


@app.command("help")
def help_command(
    topic: Annotated[
        str, typer.Argument(metavar="TOPIC", help="The topic of a page; without one, all are listed.")
    ] = "",
    _config: UnusedConfig = "",
    _data: UnusedData = "",
    as_json: JsonOption = False,
) -> None:
    """Print a page of the documentation, or the list of topics."""
    if not topic:
        _print_topics(as_json)
        return
    try:
        page = get_page(topic)
    except TopicUnknown as error:
        near = f"near it are {', '.join(error.near)}; " if error.near else ""
        print(f"registry-gateway: {error}: {near}`registry-gateway help` lists all topics", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps({"topic": page.topic, "summary": page.summary, "text": page.text}, indent=2))
    else:
        print(page.text, end="")


def _print_topics(as_json: bool) -> None:
    """Print each topic with its line; people are told what to type next."""
    pages = list_pages()
    if as_json:
        print(json.dumps([{"topic": page.topic, "summary": page.summary} for page in pages], indent=2))
        return
    width = max(len(page.topic) for page in pages)
    for page in pages:
        print(f"{page.topic:{width}}  {page.summary}")
    print("\n`registry-gateway help TOPIC` prints a page, `registry-gateway COMMAND --help` the options of a command.")
