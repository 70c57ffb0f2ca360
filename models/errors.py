"""The error that a user can act on."""


class InputError(ValueError):
    """A wrong input: one sentence that names the file or input, the value found and what would be right.

    The command line prints it on one line and exits with code 2; ComfyUI shows it on the node.
    """
