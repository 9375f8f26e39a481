"""What a body needs of whoever serves it, as far as it can be read off: what is paid for, and what would have to be fetched."""

from typing import Any

import pytest

from gateway.core.exchange import Needs
from gateway.core.rank import EXPECTED_OUTPUT_TOKENS
from gateway.wire.chat import Reading
from gateway.wire.text import Estimator


def needs(content: Any = "Hello", **more: Any) -> Needs:
    body = {"model": "alpha", "messages": [{"role": "user", "content": content}], **more}
    return Reading.of(body).needs(body, Estimator())


def test_each_answer_is_paid_for() -> None:
    assert needs().output_tokens is None
    assert needs(n=1).output_tokens is None
    assert needs(n=1, max_tokens=70).output_tokens == 70
    assert needs(n=3, max_completion_tokens=70, max_tokens=5).output_tokens == 210
    assert needs(n=3).output_tokens == 3 * EXPECTED_OUTPUT_TOKENS


@pytest.mark.parametrize(
    ("part", "remote"),
    [
        ({"type": "image_url", "image_url": "data:image/png;base64,AAAA"}, False),
        ({"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}, True),
        ({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}, False),
        ({"type": "input_audio", "input_audio": "data:audio/wav;base64,UklGRg=="}, False),
        ({"type": "input_audio", "input_audio": "https://x.test/a.mp3"}, True),
        ({"type": "input_audio", "input_audio": {"data": "https://x.test/a.mp3", "format": "mp3"}}, True),
        ({"type": "file", "file": {"file_id": "file-1"}}, True),
    ],
)
def test_what_an_upstream_would_have_to_fetch_is_noticed(part: dict[str, Any], remote: bool) -> None:
    assert needs([part]).remote_content is remote
