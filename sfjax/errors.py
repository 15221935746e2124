"""What a user can put right."""


class UserError(Exception):
    """A mistake in the input, not in the program: one line that says what was wanted, what came and what to do.

    The command line prints it without a traceback and exits with code 2.
    """
