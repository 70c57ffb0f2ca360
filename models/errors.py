"""The error that a user can act on."""


class InputError(ValueError):
    """A wrong input: one sentence that names the file or input, the value found and what would be right.

    The command line prints it on one line and exits with code 2; ComfyUI shows it on the node.
    """


def one_line(text: str) -> str:
    """``text`` on one line: line ends as spaces, other control characters, as a file may hold, by their numbers."""
    words = " ".join(text.splitlines())
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in words)
