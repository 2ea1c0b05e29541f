"""The one exception for mistakes a user can mend; the shell shows it as one sentence, exit 2."""


class UserError(ValueError):
    """Bad input: the message names the site, column, file or option, and the remedy."""
