"""The one error that a person is meant to read; alone here, so that it costs no import."""


class UserError(Exception):
    """A person's mistake, told in one or two sentences: what was found, where, what to do."""
