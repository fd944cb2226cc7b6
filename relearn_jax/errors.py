"""The exceptions that a user is meant to read."""


class UserError(Exception):
    """Something in the input is wrong; the message says what, where, and how to mend it."""


class Stopped(Exception):
    """The process was asked to end, and has saved what it had."""
