"""The exceptions whose messages are for users."""


class UserError(Exception):
    """An error in the input; the message says what is wrong, where, and how to correct it."""


class Stopped(Exception):
    """The process was asked to stop, and has saved its work."""
