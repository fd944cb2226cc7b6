"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something in the input is wrong; the message says what, where, and how to mend it."""
