"""Whether a secret's value can be used. The sentences repeat no part of the value."""


def credential_problem(value: str) -> str | None:
    """Return why a provider's credential cannot be sent as a header, or is not the key alone; None if it can."""
    if (problem := wrapping_problem(value)) is not None:
        return problem
    if len(value.splitlines()) > 1:
        return f"has {len(value.splitlines())} lines; write the key alone, on one line"
    if not value.isascii():
        position = next(index for index, character in enumerate(value, start=1) if not character.isascii())
        return f"has a character that is not ASCII (number {position}); keys have none, so copy the key again"
    if not value.isprintable():
        return "has a control character, which headers cannot have; write the key alone"
    if " " in value:
        return "has a space in it; write the key alone, without the name of a scheme such as Bearer"
    return None


def wrapping_problem(value: str) -> str | None:
    """Return what is around a value by mistake: quotes, or a byte order mark."""
    if value.startswith("\ufeff"):
        return "starts with a byte order mark; save the file as UTF-8 without one"
    if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
        return "is in quotes, which are part of the value; remove them"
    return None
