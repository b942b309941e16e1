"""Content of traces, for operators who opted in."""

from platform_app.observability.tracing.content import ContentCapture


def test_whole_response_is_captured_as_messages() -> None:
    capture = ContentCapture(1_000)
    capture.note_prompt({"messages": [{"role": "user", "content": "Hi"}], "temperature": 1})
    capture.note_response([{"role": "assistant", "content": "Hello"}])
    assert capture.content() == {
        "prompt": '[{"role":"user","content":"Hi"}]', "output": '[{"role":"assistant","content":"Hello"}]'
    }  # fmt: skip


def test_stream_is_captured_as_one_message() -> None:
    capture = ContentCapture(1_000)
    for text in ("Hel", "", "lo"):
        capture.note_text(text)
    assert capture.content() == {"output": '[{"role":"assistant","content":"Hello"}]'}


def test_content_is_cut_at_limit_in_bytes() -> None:
    """A cut inside a character drops the rest of it."""
    capture = ContentCapture(20)
    capture.note_prompt({"input": "ü" * 100})
    for _ in range(10_000):
        capture.note_text("word ")
    content = capture.content()
    assert content["prompt"] == '"' + "ü" * 9
    assert len(content["output"].encode()) == 20


def test_embeddings_have_no_output() -> None:
    capture = ContentCapture(100)
    capture.note_response([])
    assert capture.content() == {}
