"""What the shell offers at the tab key: running nodes, and the words that an exec command may go on with.

A node is not asked: the words come from the commands' own description, so a tab costs no more than starting the program.
"""

from collections.abc import Iterator

import typer


def node_names(incomplete: str) -> Iterator[str]:
    """Names of the nodes that run on this machine."""
    from groupvpn.node.state import running

    return (name for name in running() if name.startswith(incomplete))


def exec_words(ctx: typer.Context, incomplete: str) -> Iterator[tuple[str, str]]:
    """Keywords that may follow what was typed of an exec command, with their help; arguments are the operator's to know."""
    from groupvpn.console.registry import exec_commands

    typed = " ".join(ctx.params.get("command") or ())
    for word, meaning in exec_commands().following(typed):
        if word.startswith(incomplete) and word[0].isalnum() and not word.isupper():  # arguments are in capitals, as `<cr>` is in brackets
            yield word, meaning
