"""The built-in benchmarks on rows of their own columns, by the real `datasets` library: folders, files, and the hub's cache."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, Features, Image, Value
from test_datasets import encoded
from test_hub_datasets import COMMITS, FILES, Hub, ask

from vlmerge.config.run import TaskSpec
from vlmerge.errors import TaskError
from vlmerge.tasks import BUILT_IN, Task, check_pictures, load_task, task_questions
from vlmerge.types import Question

TEXT = Value("string")
PICTURES = {f"image_{number}": Image() for number in range(1, 8)}
MMMU = Features(
    {"id": TEXT, "question": TEXT, "options": TEXT, "explanation": TEXT, **PICTURES}
    | dict.fromkeys(("img_type", "answer", "topic_difficulty", "question_type", "subfield"), TEXT)
)
MGSM = Features({"question": TEXT, "answer": TEXT, "answer_number": Value("int32"), "equation_solution": TEXT})
MODELS = ("claude-3-opus-20240229", "gemini-1.0-pro-vision-latest", "gpt-4-0125-preview", "gpt-4-vision-preview")
HERON = Features(
    {"question_id": Value("int64"), "image": Image(), **dict.fromkeys(("category", "image_category", "context", "text"), TEXT)}
    | {"answer": dict.fromkeys(MODELS, TEXT)}
)


@pytest.fixture(autouse=True)
def quiet_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps the library's cache out of the home folder, and its bars off the screen."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets-cache")
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def examination(split: str, subject: str, number: int, **keys: Any) -> dict[str, Any]:
    """A row of MMMU: one picture and three options, unless it is told otherwise."""
    row: dict[str, Any] = dict.fromkeys(MMMU)
    row |= {
        "id": f"{split}_{subject}_{number}",
        "question": f"<image 1> {subject} {number}?",
        "options": "['red', \"it's\", '3']",
    }
    row |= {"image_1": encoded((number, len(subject), 9)), "img_type": "['Tables']", "answer": "B", "explanation": ""}
    return row | {"question_type": "multiple-choice", "topic_difficulty": "Easy", "subfield": subject} | keys


def japanese_rows() -> dict[str, Dataset]:
    two = {"question": "<image 2>と<image1>のどちらですか。", "options": "['<image 3>', '左']", "answer": "A"}
    two |= {"image_2": encoded((1, 2, 3)), "image_3": encoded((3, 2, 1))}
    free = {"options": "[]", "question_type": "open", "answer": "12"}
    art = [examination("validation", "Japanese_Art", 1), examination("validation", "Japanese_Art", 2, **two)]
    return {
        "Japanese_Art": Dataset.from_list(art, features=MMMU),
        "Math": Dataset.from_list([examination("validation", "Math", 1, **free)], features=MMMU),
    }


@pytest.fixture
def jmmmu(tmp_path: Path) -> Path:
    """The hub's layout: a folder for each subject."""
    for subject, rows in japanese_rows().items():
        (tmp_path / "jmmmu" / subject).mkdir(parents=True)
        rows.to_parquet(str(tmp_path / "jmmmu" / subject / "test-00000-of-00001.parquet"))
    return tmp_path / "jmmmu"


def of_two_subjects(**keys: Any) -> Task:
    task = load_task(TaskSpec(name="jmmmu", kinds=("Japanese_Art", "Math"), **keys))
    assert not hasattr(task, "ask")
    return task  # type: ignore[return-value]


def test_subjects_are_one_task_and_each_names_its_kind(jmmmu: Path) -> None:
    task = of_two_subjects(path=str(jmmmu))
    free, choice, two = task.questions()
    assert task.source.endswith("jmmmu, Math, Japanese_Art, split test")
    assert [each.kind for each in (choice, two, free)] == ["Japanese_Art", "Japanese_Art", "Math"]
    assert (choice.id, choice.references, choice.options) == ("validation_Japanese_Art_1", ("B",), ("red", "it's", "3"))
    wording = "与えられた選択肢の中から最も適切な回答のアルファベットを直接記入してください。"
    assert choice.text == f"<image 1> Japanese_Art 1?\nA. red\nB. it's\nC. 3\n\n{wording}"
    assert [picture.open().getpixel((0, 0)) for picture in two.pictures] == [(2, 12, 9), (1, 2, 3), (3, 2, 1)]
    assert two.text.startswith("<image 2>と<image 1>のどちらですか。\nA. <image 3>\nB. 左")
    assert free.text == "<image 1> Math 1?\n\n質問に対する回答を単語や短いフレーズで記入してください。"
    assert (free.references, free.options) == (("12",), ())
    check_pictures(task.questions())
    assert [task.score(choice, said) for said in ("B", "答えはBです。", "A", "わかりません")] == [1, 1, 0, pytest.approx(1 / 3)]
    assert [task.score(free, said) for said in ("よって、答えは12個です。", "13")] == [1, 0]


def test_one_subject_is_read_alone(jmmmu: Path) -> None:
    shutil.rmtree(jmmmu / "Math")  # not read, so not missed
    (first, second) = load_task(TaskSpec(name="jmmmu", path=str(jmmmu), kinds=("Japanese_Art",))).questions()
    assert (first.kind, second.kind) == ("Japanese_Art", "Japanese_Art")
    with pytest.raises(TaskError, match="unknown kind of questions 'japanese_art'") as caught:
        load_task(TaskSpec(name="jmmmu", path=str(jmmmu), kinds=("japanese_art",)))
    assert "write 'Japanese_Art'" in caught.value.message()


def test_one_file_with_all_subjects_will_do(tmp_path: Path) -> None:
    datasets.concatenate_datasets(list(japanese_rows().values())).to_parquet(str(tmp_path / "all.parquet"))
    questions = load_task(TaskSpec(name="jmmmu", path=str(tmp_path / "all.parquet"))).questions()
    assert [each.kind for each in questions] == ["Japanese_Art", "Japanese_Art", "Math"]
    (math,) = load_task(TaskSpec(name="jmmmu", path=str(tmp_path / "all.parquet"), kinds=("Math",))).questions()
    assert math == questions[2]


class Benchmarks(Hub):
    """A hub with JMMMU on it."""

    known = ("JMMMU",)


def test_subjects_of_the_hub_are_one_task_and_again_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files: dict[str, bytes] = {}
    card = "---\nconfigs:\n"
    for subject, rows in japanese_rows().items():
        files[f"{subject}/test-00000-of-00001.parquet"] = as_parquet(rows)
        card += f"- config_name: {subject}\n  data_files:\n  - split: test\n    path: {subject}/test-*\n"
    monkeypatch.setitem(FILES, COMMITS["main"], {"README.md": (card + "---\n").encode(), **files})
    spec = {"name": "jmmmu", "kinds": ["Japanese_Art", "Math"]}
    # What the built-in makes of a row is not made of a name's: there, options are text.
    by_name = {"name": "hf:JMMMU/JMMMU:Math,Japanese_Art", "fields": {"options": "no_such_column", "image": "image_1"}}
    with ThreadingHTTPServer(("127.0.0.1", 0), Benchmarks) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (online, by_hand) = ask(tmp_path, {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}, spec, by_name)
        server.shutdown()
    commit = COMMITS["main"][:12]
    assert online.startswith(f"jmmmu | JMMMU/JMMMU@{commit}, Math, Japanese_Art, split test | <image 1> Math 1?\n\n質問に")
    assert online.count(" | ") == 4
    assert by_hand.startswith(f"JMMMU/JMMMU | JMMMU/JMMMU@{commit}, Math, Japanese_Art, split test | <image 1> Math 1? | ")
    assert ask(tmp_path, {"HF_HUB_OFFLINE": "1"}, spec) == [online]


def as_parquet(rows: Dataset) -> bytes:
    buffer = io.BytesIO()
    rows.to_parquet(buffer)
    return buffer.getvalue()


def mmmu(folder: Path, split: str, **keys: Any) -> str:
    """A copy of MMMU with one row of one subject and split."""
    (folder / "Art").mkdir(parents=True, exist_ok=True)
    rows = Dataset.from_list([examination(split, "Art", 1, **keys)], features=MMMU)
    rows.to_parquet(str(folder / "Art" / f"{split}-00000-of-00001.parquet"))
    return str(folder)


def test_mmmu_asks_as_its_own_evaluation_does(tmp_path: Path) -> None:
    task = load_task(TaskSpec(name="mmmu", path=mmmu(tmp_path, "validation"), kinds=("Art",)), preset="mmmu")
    (question,) = task.questions()
    options = "(A) red\n(B) it's\n(C) 3"
    assert question.text == f"<image 1> Art 1?\n\n{options}\n\nAnswer with the option's letter from the given choices directly."
    # The other splits lie beside it, as on the hub; `dev` is no part of `validation`.
    free = {"question_type": "open", "answer": "['1/8', '0.125']", "options": "[]"}
    copy = mmmu(tmp_path, "dev", **free)
    (again,) = load_task(TaskSpec(name="mmmu", path=copy, kinds=("Art",))).questions()
    assert again == question
    (question,) = load_task(TaskSpec(name="mmmu", path=copy, kinds=("Art",), split="dev")).questions()
    assert question.references == ("1/8", "0.125")
    assert question.text == "<image 1> Art 1?\n\nAnswer the question using a single word or phrase."


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"answer": "?"}, "keeps its answers to itself"),
        ({"answer": "D"}, "none of its options"),
        ({"options": "red, blue"}, "options of a question cannot be read"),
        ({"image_1": None}, "names a picture that its row has not"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(tmp_path: Path, keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(TaskError, match=complaint) as caught:
        load_task(TaskSpec(name="mmmu", path=mmmu(tmp_path, "validation", **keys), kinds=("Art",)))
    assert "Art, split validation, row 1" in caught.value.message()


def test_mgsm_ja_is_scored_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "mgsm" / "ja").mkdir(parents=True)
    rows = {"question": ["りんごは何個ですか?", "いくらですか?"], "answer": [None] * 2, "answer_number": [18, 1200]}
    rows["equation_solution"] = [None] * 2
    Dataset.from_dict(rows, features=MGSM).to_parquet(str(tmp_path / "mgsm" / "ja" / "test-00000-of-00001.parquet"))
    spec = TaskSpec(name="mgsm-ja", path=str(tmp_path / "mgsm"))
    ours: Any = load_task(spec)
    published: Any = load_task(spec, preset="evollm-jp")
    apples, price = ours.questions()
    assert (apples.references, price.references, apples.pictures) == (("18",), ("1200",), ())
    assert (ours.metric, published.metric) == ("number_match", "mgsm_ja")
    for said, score in {
        "3×6で、答えは18です。": 1,
        "答えは１８個です": 1,
        "18から3を引いて15です": 0,
        "分かりません": 0,
    }.items():
        assert (said, ours.score(apples, said), published.score(apples, said)) == (said, score, score)
    assert (ours.score(price, "答えは1,200円です。"), published.score(price, "答えは1,200円です。")) == (1, 0)  # as published
    assert (ours.score(apples, "The answer is 18."), published.score(apples, "The answer is 18.")) == (1, 0)


def asked_without_a_judge(spec: TaskSpec) -> tuple[Question, ...]:
    with pytest.raises(TaskError, match="marked by a judge, and none is there") as caught:
        load_task(spec)
    assert "metric: judge, and no judge" in caught.value.message()
    named: Any = load_task(spec.model_copy(update={"metric": "char_rougeL"}))
    questions = task_questions(spec)[1]
    assert named.questions() == questions
    return questions


def test_heron_bench_has_gpt_4_s_answers_and_what_the_judge_is_told(tmp_path: Path) -> None:
    row = {
        "question_id": 7,
        "image": encoded((9, 9, 9), "JPEG"),
        "category": "conv",
        "image_category": "anime",
        "text": "誰ですか?",
    }
    row |= {"context": "少女の絵です。", "answer": {model: f"{model}の答え" for model in MODELS}}
    Dataset.from_list([row], features=HERON).to_parquet(str(tmp_path / "heron.parquet"))
    (question,) = asked_without_a_judge(TaskSpec(name="japanese-heron-bench", path=str(tmp_path / "heron.parquet")))
    assert (question.id, question.kind, question.context) == ("7", "conv", "少女の絵です。")
    assert question.references == ("gpt-4-0125-previewの答え",)
    check_pictures([question])
    del row["answer"]["gpt-4-0125-preview"]  # type: ignore[attr-defined]
    Dataset.from_list([row]).to_parquet(str(tmp_path / "other.parquet"))
    with pytest.raises(TaskError, match="no reference answer"):
        task_questions(TaskSpec(name="japanese-heron-bench", path=str(tmp_path / "other.parquet")))


def test_elyza_tasks_are_a_csv_as_on_the_hub(tmp_path: Path) -> None:
    rows = {
        "input": ["仕事の熱意を取り戻すには?", "続きを書いて"],
        "output": ["1. 休む", "終わり。"],
        "eval_aspect": ["- 熱意", None],
    }
    Dataset.from_dict(rows).to_csv(str(tmp_path / "test.csv"))
    first, second = asked_without_a_judge(TaskSpec(name="elyza-tasks-100", path=str(tmp_path)))
    assert (first.text, first.references, first.context) == ("仕事の熱意を取り戻すには?", ("1. 休む",), "- 熱意")
    assert second.context == ""


def test_every_built_in_says_what_scores_it_and_names_its_own_split() -> None:
    for name, task in BUILT_IN.items():
        assert (task.name, task.split in task.splits) == (name, True)
        assert len(set(task.configs)) == len(task.configs)
    assert (len(BUILT_IN["mmmu"].configs), len(BUILT_IN["jmmmu"].configs)) == (30, 28)


def test_options_of_one_s_own_are_lettered(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text('{"question": "色は?", "options": ["赤", "青"], "answer": "青"}\n', encoding="utf-8")
    task: Any = load_task(TaskSpec(name=str(tmp_path / "own.jsonl"), metric="jmmmu"))
    (question,) = task.questions()
    assert (question.text, question.references, question.options) == ("色は?\nA. 赤\nB. 青", ("B",), ("赤", "青"))
    assert [task.score(question, said) for said in ("B", "(A)", "?")] == [1.0, 0.0, 0.5]
    for options, complaint in (('["赤"]', "none of its options"), ('"赤, 青"', "are no list"), ("[]", "are no list")):
        (tmp_path / "bad.jsonl").write_text(
            f'{{"question": "色は?", "options": {options}, "answer": "青"}}\n', encoding="utf-8"
        )
        with pytest.raises(TaskError, match=complaint):
            load_task(TaskSpec(name=str(tmp_path / "bad.jsonl")))
