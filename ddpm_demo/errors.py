"""The one exception for a user's mistake: the command lines print its sentence instead of a traceback."""


class UserError(ValueError):
    """What came, what is allowed, what to do, in a sentence or two."""
