"""The exception for a user's mistakes; the command line prints it and exits with 2."""


class UserError(ValueError):
    """Bad input: the message names the site, column, file or option, and the remedy."""
