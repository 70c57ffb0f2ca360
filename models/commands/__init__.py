"""The commands of ``codeclens``, one module per family.

Each family has ``add_commands(commands)``, where ``commands`` is argparse's subparsers object: it adds its parsers and
sets ``run`` (a function of the parsed arguments that returns the exit code) as each parser's default.
"""
