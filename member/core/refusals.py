"""Why a repository is not built: sentences for its visitor."""


class RepositoryError(Exception):
    """Something in the repository is wrong; its author can mend it."""


class UnsupportedError(RepositoryError):
    """The repository asks for what this builder cannot do, and another one can."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}, {why}; a member with the container builder can.")
