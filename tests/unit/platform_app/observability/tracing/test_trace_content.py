"""Content of traces, for operators who opted in."""

from platform_app.observability.tracing.content import ContentCapture


def _chunk(text: str) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


def test_whole_response_is_captured_as_messages() -> None:
    capture = ContentCapture(1_000)
    capture.note_prompt({"messages": [{"role": "user", "content": "Hi"}], "temperature": 1})
    capture.note_response({"choices": [{"message": {"role": "assistant", "content": "Hello"}}], "id": "x"})
    assert capture.content() == {
        "prompt": '[{"role":"user","content":"Hi"}]', "output": '[{"role":"assistant","content":"Hello"}]'
    }  # fmt: skip


def test_stream_is_captured_as_one_message() -> None:
    capture = ContentCapture(1_000)
    for text in ("Hel", "", "lo"):
        capture.note_chunk(_chunk(text))
    odd: list[dict[str, object]] = [{}, {"choices": []}, {"choices": [None]}, {"choices": [{"delta": None}]}]
    for body in odd:
        capture.note_chunk(body)
    assert capture.content() == {"output": '[{"role":"assistant","content":"Hello"}]'}


def test_content_is_cut_at_limit_in_bytes() -> None:
    """A cut inside a character drops the rest of it."""
    capture = ContentCapture(20)
    capture.note_prompt({"input": "ü" * 100})
    for _ in range(10_000):
        capture.note_chunk(_chunk("word "))
    content = capture.content()
    assert content["prompt"] == '"' + "ü" * 9
    assert len(content["output"].encode()) == 20


def test_embeddings_have_no_output() -> None:
    capture = ContentCapture(100)
    capture.note_response({"data": [{"embedding": [0.1]}]})
    assert capture.content() == {}
