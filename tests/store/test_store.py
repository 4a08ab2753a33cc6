"""Laws of the store: all or nothing, readable while it is written, the same after a copy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vlmerge.errors import RunFolderError
from vlmerge.store import STORE_NAME, AnswerRecord, Store, Trial

ANSWER = AnswerRecord("search", "counting", "q1", "三つです", 4, 0.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / STORE_NAME


def a_trial(number: int, label: str) -> Trial:
    return Trial(number, label, "searched", 0, 0, number, (0.25, 1.0), "models: []", "scored", None, {"merge": 1.5}, "now")


def contents(store: Store) -> tuple[object, ...]:
    trials = store.trials()
    return store.get("config_asked"), trials, [store.answers(t.trial, "search") for t in trials], store.generations()


def fill(store: Store) -> None:
    store.set("config_asked", {"日本": [1, None, 0.1]})
    store.record_ask(0, 0, [(0.25, 1.0), (0.1 + 0.2, 1e-300)])
    store.record_trial(a_trial(1, "one"), [ANSWER])
    store.record_tell(0, 0, [0.5, None], (0.3, 0.4), 0.1, 2.0)


def test_what_was_written_is_read_back(path: Path):
    with Store.create(path) as store:
        fill(store)
    with Store.open(path) as store:
        assert store.get("config_asked") == {"日本": [1, None, 0.1]}
        assert store.trials() == [a_trial(1, "one")]
        assert store.trial("one") == store.trial(1)
        assert store.answers(1, "search") == [ANSWER]
        (generation,) = store.generations()
        assert generation.genomes == ((0.25, 1.0), (0.1 + 0.2, 1e-300))
        assert (generation.fitness, generation.mean) == ((0.5, None), (0.3, 0.4))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_transaction_that_fails_leaves_nothing(path: Path, error: type[BaseException]):
    def fail_midway(store: Store) -> None:
        with store.transaction():
            store.set("config_asked", "new")
            store.record_trial(a_trial(1, "one"), [ANSWER])
            raise error

    with Store.create(path) as store:
        store.set("config_asked", "old")
        before = contents(store)
        with pytest.raises(error):
            fail_midway(store)
        assert contents(store) == before
        store.record_trial(a_trial(1, "one"))  # The store is usable, and the number free.
        assert store.next_trial() == 2


def test_a_trial_with_an_answer_that_cannot_be_written_is_not_written(path: Path):
    with Store.create(path) as store:
        with pytest.raises(Exception, match="NOT NULL"):
            store.record_trial(a_trial(1, "one"), [ANSWER, AnswerRecord("search", "counting", "q2", "x", 1, None)])  # type: ignore[arg-type]
        assert store.trials() == []
        assert not store.has_answers(1, "search")


def test_a_kill_within_a_transaction_leaves_the_state_before_it(path: Path):
    with Store.create(path) as store:
        fill(store)
        before = contents(store)
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom vlmerge.store import Store\n"
        "store = Store.open(Path(sys.argv[1]))\n"
        "with store.transaction():\n"
        "    for number in range(2000): store.set(f'key {number}', 'x' * 2000)\n"  # More than SQLite keeps in memory.
        "    store.set('config_asked', 'half')\n"
        "    print(store.get('config_asked'), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-9, "half\n")
    with Store.open(path) as store:
        assert contents(store) == before
        assert store.get("key 0") is None


def test_a_killed_creation_is_finished_by_the_next(path: Path):
    path.write_bytes(b"")
    with Store.create(path) as store:
        assert store.next_trial() == 1
    with Store.open(path) as store:
        fill(store)
    with Store.create(path) as store:
        assert store.next_trial() == 2


def test_a_reader_sees_whole_transactions_while_another_writes(path: Path):
    with Store.create(path) as writer, Store.read_only(path) as reader:
        with writer.transaction():
            writer.record_trial(a_trial(1, "one"), [ANSWER])
            assert reader.trials() == []
        assert reader.trials() == [a_trial(1, "one")]
        with pytest.raises(Exception, match="readonly"):
            reader.set("config_asked", "changed by a reader")


def test_a_snapshot_equals_the_store_and_needs_nothing_beside_it(path: Path, tmp_path: Path):
    target = tmp_path / "drive" / STORE_NAME
    target.parent.mkdir()
    target.write_text("an older snapshot")
    with Store.create(path) as store:
        fill(store)
        store.snapshot(target)
        with Store.read_only(target) as copy:
            assert contents(copy) == contents(store)
        store.record_trial(a_trial(2, "two"))
        with Store.read_only(target) as copy:
            assert copy.next_trial() == 2
    assert [entry.name for entry in target.parent.iterdir()] == [STORE_NAME]


@pytest.mark.parametrize("opened", [Store.open, Store.read_only])
def test_what_is_not_a_store_of_this_version_is_refused(path: Path, opened):
    with pytest.raises(RunFolderError, match="not a run folder"):
        opened(path)
    assert not path.exists()
    with Store.create(path) as store:
        store.set("schema", 999)
    with pytest.raises(RunFolderError, match="schema 999"):
        opened(path)
    path.write_text("no database, but long enough to be looked at" * 50)
    with pytest.raises(RunFolderError, match="cannot be read"):
        opened(path)
