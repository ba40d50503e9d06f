"""What a reader says of a file that it refuses."""

import pytest


def refusal_by(read, path):
    """The message of ``read(path)``: one printable sentence that begins with the file and is short."""
    with pytest.raises(ValueError, match="cannot be read") as found:
        read(path)
    message = str(found.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    assert len(message) < 1000
    return message
