"""Commands that look at a video: plan, motion, cuts."""


def add_commands(commands) -> None:
    """Add the family's parsers to ``commands``."""
