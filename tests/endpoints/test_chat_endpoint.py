"""A chat endpoint is asked as its protocol wants, with patience where that helps, and every failure is said in words."""

from __future__ import annotations

import io
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlmerge.endpoints import chat
from vlmerge.endpoints.address import Endpoint, check_address, open_endpoint
from vlmerge.endpoints.asking import PATIENCE, ask_all
from vlmerge.endpoints.chat import Reply, Request, Turn, complete, served_models
from vlmerge.endpoints.kept import Kept, key_of
from vlmerge.endpoints.pictures import data_url
from vlmerge.errors import EndpointError, TaskError
from vlmerge.types import Picture

from .chat_server import ChatServer, Trouble, last_text, serving, shown


def request(text: str = "hello", *pictures: Picture, **keys: Any) -> Request:
    return Request((Turn("user", text, pictures),), 32, what=f"question {text!r}", **keys)


def at(server: ChatServer, **keys: Any) -> Endpoint:
    return Endpoint(server.url, "tiny", **keys)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "FIRST_PAUSE", 0.01)


def test_a_request_is_what_the_protocol_says() -> None:
    with serving(ChatServer(lambda messages: f"said: {last_text(messages)}", key="secret")) as server:
        reply = complete(at(server, key="secret"), request("船ですか?", temperature=0.7, top_p=0.9, seed=3))
    assert reply == Reply("said: 船ですか?", 7, 3)
    (body,) = server.asked
    assert body == {
        "model": "tiny", "messages": [{"role": "user", "content": "船ですか?"}],
        "max_tokens": 32, "temperature": 0.7, "top_p": 0.9, "seed": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(429, '{"error": {"message": "slow down"}}'),
        Trouble(500, "oops"),
        Trouble(503, "", {"Retry-After": "0.02"}),
        Trouble(silence=1.0),
        Trouble(broken=True),
    ],
    ids=["429", "500", "503 with Retry-After", "silence", "broken connection"],
)
def test_what_passes_by_itself_is_tried_again(trouble: Trouble) -> None:
    with serving(ChatServer(lambda _: "yes", troubles=[trouble, trouble])) as server:
        assert complete(at(server, timeout=0.4), request()).text == "yes"
    assert server.tries == 3


def test_a_server_is_given_up_after_all_attempts_with_what_it_said() -> None:
    busy = Trouble(529, '{"error": {"message": "Overloaded"}}')
    with serving(ChatServer(lambda _: "yes", troubles=[busy] * 9)) as server, pytest.raises(EndpointError) as caught:
        complete(at(server, attempts=3), request("left?"))
    assert server.tries == 3
    for words in ("3 attempts", "529: Overloaded", "question 'left?'", "is kept"):
        assert words in caught.value.message()


def test_retry_after_is_waited_for() -> None:
    with serving(ChatServer(lambda _: "yes", troubles=[Trouble(429, "", {"Retry-After": "0.3"})])) as server:
        started = time.monotonic()
        complete(at(server), request())
    assert time.monotonic() - started >= 0.3


def refused(server: ChatServer, endpoint: Endpoint | None = None) -> str:
    with pytest.raises(EndpointError) as caught:
        complete(endpoint or at(server), request())
    assert server.tries <= 1, "what waiting does not mend is not tried again"
    return caught.value.message()


def test_a_wrong_key_a_wrong_model_and_a_wrong_address_are_told_apart() -> None:
    with serving(ChatServer(lambda _: "yes", key="right")) as server:
        message = refused(server, at(server, key="wr0ng-k3y"))
        assert "401: Incorrect API key provided (invalid_api_key)" in message
        assert "--api-key-env" in message
        assert "wr0ng-k3y" not in message
    with serving(ChatServer(lambda _: "yes")) as server:
        assert "The model `huge` does not exist." in refused(server, Endpoint(server.url, "huge"))
    with serving(ChatServer(lambda _: "yes")) as server:
        message = refused(server, Endpoint(server.url.removesuffix("/v1"), "tiny"))
        assert "404: Not Found" in message
        assert "/v1" in message


def test_nobody_there_is_said_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EndpointError, match="connection refused"):
        complete(Endpoint(f"http://127.0.0.1:{port}/v1", "tiny"), request())


def test_a_key_does_not_follow_a_redirect() -> None:
    with serving(ChatServer(lambda _: "yes")) as other:
        away = Trouble(302, "", {"Location": f"{other.url}/chat/completions"})
        with serving(ChatServer(lambda _: "yes", troubles=[away])) as server:
            assert other.url in refused(server, at(server, key="secret"))
    assert other.tries == 0


@pytest.mark.parametrize("body", ["<html>welcome</html>", "[]", '{"choices": []}', '{"choices": [{"text": "old"}]}'])
def test_another_protocol_is_recognised(body: str) -> None:
    with serving(ChatServer(lambda _: "yes", troubles=[Trouble(201, body)])) as server:
        assert "does not speak OpenAI's chat protocol" in refused(server)


def test_a_used_up_quota_is_no_reason_to_wait() -> None:
    empty = Trouble(429, '{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}')
    with serving(ChatServer(lambda _: "yes", troubles=[empty])) as server:
        assert "quota" in refused(server)


def test_the_longest_answer_goes_by_the_name_that_the_server_wants() -> None:
    other = Trouble(400, '{"error": {"message": "Unsupported parameter: use \'max_completion_tokens\' instead."}}')
    with serving(ChatServer(lambda _: "yes", troubles=[other])) as server:
        assert complete(at(server), request()).text == "yes"
    assert server.asked[0]["max_completion_tokens"] == 32
    assert "max_tokens" not in server.asked[0]


def test_pictures_arrive_with_the_pixels_that_models_here_see(questions: Path) -> None:
    red, blue = (Picture(path=questions.parent / name) for name in ("red.png", "blue.jpg"))
    with serving(ChatServer(lambda messages: f"{len(shown(messages))}")) as server:
        assert complete(at(server), request("?", red, blue)).text == "2"
    first, second = shown(server.asked[0]["messages"])
    assert first == (questions.parent / "red.png").read_bytes()
    with Image.open(io.BytesIO(second)) as turned:
        assert turned.size == (4, 8)
        assert Picture(data=second).digest == blue.digest
    with pytest.raises(TaskError, match="cannot be read"):
        data_url(Picture(data=b"no picture", origin="row 3"))


def test_the_models_of_a_server_are_listed() -> None:
    with serving(ChatServer(lambda _: "", models=("one", "two"))) as server:
        assert served_models(server.url, None) == ["one", "two"]
        with pytest.raises(EndpointError, match="404"):
            served_models(f"{server.url}/nowhere", None)


NULL: dict[str, Any] = {"role": "assistant", "content": None}
NO_ANSWERS = {
    "a tool": {"message": {**NULL, "tool_calls": [{"type": "function"}]}, "finish_reason": "tool_calls"},
    "a filter": {"message": {**NULL, "content": ""}, "finish_reason": "content_filter"},
    "nothing": {"message": NULL, "finish_reason": "stop"},
}
ANSWERS = {
    "I cannot help with that.": {"message": {**NULL, "refusal": "I cannot help with that."}, "finish_reason": "stop"},
    "": {"message": {**NULL, "reasoning_content": "Hm."}, "finish_reason": "length"},
}


def test_no_text_is_an_answer_only_where_the_protocol_means_one() -> None:
    for text, choice in ANSWERS.items():
        with serving(ChatServer(lambda _, choice=choice: choice)) as server:
            reply = complete(at(server), request())
        assert (reply.text, reply.withheld, reply.cut) == (text, "", not text), "a refusal in words; a thought without an end"
    reasons: set[str] = set()
    for choice in NO_ANSWERS.values():
        with serving(ChatServer(lambda _, choice=choice: choice)) as server:
            reasons.add(complete(at(server), request()).withheld)
    assert len(reasons - {""}) == len(NO_ANSWERS)


# ── many at once ──


def test_many_are_asked_in_bounded_parallel_and_come_back_in_order(tmp_path: Path) -> None:
    asked = [request(f"{number % 12}") for number in range(24)]
    counts: list[int] = []
    with serving(ChatServer(last_text, pause=0.03)) as server:
        replies = ask_all(at(server), asked, parallel=4, kept=Kept(tmp_path / "kept"), progress=counts.append)
    assert [reply.text for reply in replies] == [f"{number % 12}" for number in range(24)]
    assert server.tries == 12, "equal requests are asked once"
    assert 2 <= server.most <= 4
    assert sum(counts) == 24


def test_what_was_said_is_not_asked_again(tmp_path: Path) -> None:
    kept, asked = Kept(tmp_path / "kept.sqlite"), [request(f"{number}") for number in range(6)]
    with serving(ChatServer(last_text)) as server:
        # The fourth one is refused: those before it are kept.
        server.troubles[:] = [Trouble(), Trouble(), Trouble(), Trouble(403, "no")]
        with pytest.raises(EndpointError, match="refuses the key"):
            ask_all(at(server), asked, parallel=1, kept=kept)
        assert (server.tries, len(server.asked)) == (4, 3)
        first = ask_all(at(server), asked, parallel=1, kept=kept)
        assert len(server.asked) == 6
        assert ask_all(at(server), asked, parallel=3, kept=Kept(kept.path)) == first
        assert len(server.asked) == 6
        ask_all(at(server), asked[:2], parallel=1, kept=kept, fresh=True)
        assert len(server.asked) == 8


TOO_LONG = Trouble(400, '{"error": {"message": "maximum context length is 16"}}')


@pytest.mark.parametrize("trouble", [TOO_LONG, NO_ANSWERS["nothing"]], ids=["refused", "without text"])
def test_what_is_not_answered_is_data_where_others_are_and_an_error_where_none_is(trouble: Any, tmp_path: Path) -> None:
    kept, unasked = Kept(tmp_path / "kept"), list[None]()
    asked = [request(text) for text in ("bad", "good", "bad too")]

    def ask(some: list[Request], **keys: Any) -> list[Reply]:
        return ask_all(at(server), some, parallel=1, kept=kept, unasked=lambda: unasked.append(None), **keys)

    with serving(ChatServer(lambda turns: trouble if "bad" in last_text(turns) else "yes")) as server:
        first, second, third = ask(asked)
        assert (first.text, second, third.text) == ("", Reply("yes", 7, 3), "")
        assert first.withheld
        assert (len(unasked), server.tries) == (2, 3)
        assert ask(asked) == [first, second, third]
        assert server.tries == 3, "in this process it is known"
        assert Kept(kept.path).find(key_of(at(server), asked[0])) is None, "the next one asks again"
        with pytest.raises(EndpointError) as caught:
            ask([request("bad in its own way")])
        assert ("maximum context" if trouble is TOO_LONG else "content: null") in caught.value.message()
        assert ask([request("bad as others")], proven=True)[0].withheld
        for proven in (False, True):
            before = server.tries
            with pytest.raises(EndpointError):
                ask([request(f"bad {proven} {number}") for number in range(99)], proven=proven)
            assert server.tries - before == PATIENCE, "so many in a row are no accident: it may have been started anew"


def test_whoever_pays_can_stop_and_what_is_under_way_is_kept(tmp_path: Path) -> None:
    left = [3]

    def allow() -> None:
        if not left[0]:
            raise EndpointError("no more")
        left[0] -= 1

    kept, asked = Kept(tmp_path / "kept"), [request(f"{number}") for number in range(9)]
    with serving(ChatServer(last_text, pause=0.02)) as server:
        with pytest.raises(EndpointError, match="no more"):
            ask_all(at(server), asked, parallel=2, kept=kept, allow=allow)
        assert len(server.asked) == 3
        assert [kept.find(key_of(at(server), each)) is not None for each in asked] == [True] * 3 + [False] * 6


def test_the_key_of_what_is_kept_tells_everything_apart_that_may_change_an_answer(questions: Path) -> None:
    picture, same = Picture(path=questions.parent / "red.png"), Picture(data=(questions.parent / "red.png").read_bytes())
    here = Endpoint("http://127.0.0.1:1/v1", "tiny")
    variants = [
        (here, request("a")),
        (here, request("b")),
        (here, request("a", picture)),
        (here, request("a", temperature=1.0)),
        (here, Request((Turn("system", "s"), Turn("user", "a")), 32)),
        (here, Request((Turn("user", "a"),), 33)),
        (Endpoint("http://127.0.0.1:2/v1", "tiny"), request("a")),
        (Endpoint("http://127.0.0.1:1/v1", "small"), request("a")),
    ]
    assert len({key_of(*variant) for variant in variants}) == len(variants)
    assert key_of(here, request("a", picture)) == key_of(here, request("a", same))
    assert key_of(here, request("a")) == key_of(Endpoint(here.url, "tiny", key="another"), request("a"))


def test_a_damaged_file_of_replies_is_named(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(EndpointError, match="VLMERGE_CACHE"):
        Kept(tmp_path / "kept").find("x")


# ── addresses and keys ──


def test_addresses_are_taken_with_and_without_their_end() -> None:
    for given in ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1/chat/completions"):
        assert check_address(given) == "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize("address", ["127.0.0.1:8000/v1", "ftp://a/b", "https://", "http://a:b/", "http://a/v1?key=1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(EndpointError, match="no address of a server"):
        check_address(address)


def test_keys_in_addresses_and_in_what_servers_say_are_not_repeated() -> None:
    with pytest.raises(EndpointError) as caught:
        check_address("https://example.org/v1?api-key=s3cret")
    assert "s3cret" not in caught.value.message()
    assert "https://example.org/v1 and more" in caught.value.message()
    for status, headers in ((401, {}), (400, {}), (201, {}), (307, {"Location": "http://x/s3cret"})):
        echo = Trouble(status, '{"error": {"message": "Incorrect API key provided: s3cret"}}', headers)
        with serving(ChatServer(lambda _: "", troubles=[echo])) as server:
            message = refused(server, at(server, key="s3cret"))
        assert "s3cret" not in message
        assert "(the key)" in message


def test_passwords_in_addresses_are_refused_and_not_repeated() -> None:
    with pytest.raises(EndpointError) as caught:
        check_address("https://me:pa55@example.org/v1")
    assert "pa55" not in caught.value.message()


def test_a_key_comes_from_the_environment_and_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret\n")
    endpoint = open_endpoint("https://example.org/v1", "m", key_env="MY_KEY")
    assert endpoint.key == "s3cret"
    assert "s3cret" not in f"{endpoint!r} {endpoint}"
    monkeypatch.delenv("MY_KEY")
    with pytest.raises(EndpointError, match="MY_KEY"):
        open_endpoint("https://example.org/v1", "m", key_env="MY_KEY")
