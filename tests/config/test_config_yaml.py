"""The part of YAML that policies are written in: what is refused, where, and what a scalar means."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from config_documents import CATALOGUE, changed, load_world, mark_in, write
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.compile import load
from gateway.config.documents import DEPTH_MAX, Mapping, Scalar, read_text
from gateway.config.folder import FILE_BYTES_MAX, FILES_MAX
from gateway.config.problems import PROBLEMS_MAX, Problems

REFUSED = [
    ("an anchor", "tasks: ¦&t [coding]", "the anchor `&t`"),
    ("an alias", "tasks: [coding, ¦*t]", "the alias `*t`"),
    ("a tag", "tasks: ¦!!set [coding]", "the tag"),
    ("a tag of our own", "tasks: ¦!coding [coding]", "the tag `!coding`"),
    ("a tag that runs code", "tasks: ¦!!python/object/apply:os.system [coding]", "the tag"),
    ("a merge key", "limits:\n  ¦<<: {attempts_max: 3}", "the merge key"),
    ("a list as a key", "limits:\n  ? ¦[attempts_max]\n  : 3", "a list as a key"),
    ("a tab", "limits:\n¦\tattempts_max: 3", "not YAML"),
    ("a bracket that stays open", "tasks: [coding\n¦", "not YAML"),
    ("indentation", "tasks:\n  - coding\n ¦- other", "not YAML"),
    ("half a character", 'tasks: [¦"\\ud83d\\ude00"]', "half a character"),
    ("a control character", 'tasks: ["a¦\x07"]', "not YAML"),
]


@pytest.mark.parametrize(("text", "told"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_is_no_part_of_the_language_is_refused_where_it_stands(tmp_path: Path, text: str, told: str) -> None:
    loaded = load(write(tmp_path, {"a.yaml": text}), at=0.0)
    assert loaded.snapshot is None
    _, line, column = mark_in({"a.yaml": text})
    assert (told, line, column) in [(told, p.line, p.column) for p in loaded.problems if told in str(p)]


def test_a_second_document_is_refused(tmp_path: Path) -> None:
    (problem,) = load(write(tmp_path, {"a.yaml": "tasks: [coding]\n---\ntags: [x]\n"})).problems
    assert (problem.line, problem.found) == (2, "a second document")


def test_a_directive_is_refused(tmp_path: Path) -> None:
    problems = load(write(tmp_path, {"a.yaml": "%YAML 1.1\n---\ntasks: [coding]\n"})).problems
    assert "directive" in str(problems[0])


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n", "---\n", "null\n", "~"])
def test_an_empty_file_is_told(tmp_path: Path, text: str) -> None:
    loaded = load_world(tmp_path, {"empty.yaml": text})
    assert [problem.found for problem in loaded.problems] == ["nothing"]


@pytest.mark.parametrize(("text", "found"), [("- rules\n", "a list"), ("rules\n", "`rules`"), ("5\n", "`5`"), ("[]\n", "a list")])
def test_a_file_is_a_map(tmp_path: Path, text: str, found: str) -> None:
    (problem,) = load_world(tmp_path, {"other.yaml": text}).problems
    assert (problem.line, problem.column, problem.found) == (1, 1, found)


def test_bytes_that_are_not_utf8_are_told_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("tasks: [coding]\ntags: [ä, ".encode() + b"\xff]\n")
    (problem,) = load(tmp_path).problems
    assert (problem.line, problem.column, problem.found) == (2, 11, "the byte 0xff")


def test_utf16_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("tasks: [coding]\n".encode("utf-16"))
    assert "UTF-8" in load(tmp_path).problems[0].wanted


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    for name, text in {"catalogue.yaml": CATALOGUE}.items():
        load_world(tmp_path)
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load(tmp_path, at=0.0).problems == ()


def test_a_file_of_ten_megabytes_is_not_read(tmp_path: Path) -> None:
    load_world(tmp_path)
    (tmp_path / "big.yaml").write_bytes(b"# " + b"x" * 10_000_000)
    assert str(FILE_BYTES_MAX) in str(load(tmp_path).problems) or "bytes of policy" in str(load(tmp_path).problems)


def test_one_file_over_the_limit_is_named(tmp_path: Path) -> None:
    load_world(tmp_path)
    (tmp_path / "big.yaml").write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    (problem,) = load(tmp_path).problems
    assert problem.file == str(tmp_path / "big.yaml")
    assert str(FILE_BYTES_MAX) in problem.wanted


def test_too_many_files_are_told(tmp_path: Path) -> None:
    for number in range(FILES_MAX + 1):
        (tmp_path / f"{number}.yaml").write_text("tags: [x]\n")
    assert f"at most {FILES_MAX}" in str(load(tmp_path).problems[0])


def test_a_bomb_of_aliases_expands_to_nothing(tmp_path: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{chr(97 + n)}: &{chr(97 + n)} [" + ", ".join([f"*{chr(96 + n)}"] * 9) + "]" for n in range(1, 12)]
    problems = load(write(tmp_path, {"bomb.yaml": "\n".join(lines)})).problems
    assert 100 < len(problems) <= PROBLEMS_MAX
    assert any("the anchor `&a`" in problem.found for problem in problems)


def test_a_bomb_of_zones_is_written_out_once(tmp_path: Path) -> None:
    zones = [f"  z{n}: {{countries: [{', '.join([f'z{n - 1}'] * 50)}], source: x, verified: 2026-11-20}}" for n in range(1, 8)]
    text = "zones:\n  z0: {countries: [FR], source: x, verified: 2026-11-20}\n" + "\n".join(zones)
    loaded = load_world(tmp_path, {"zones.yaml": text})
    assert loaded.snapshot is not None
    assert loaded.snapshot.policy.vocabulary.zones["z7"] == {"FR"}


def test_a_bomb_of_rules_is_counted_before_it_is_written_out(tmp_path: Path) -> None:
    values = "[" + ", ".join(["EEA", "CH"] * 20) + "]"
    rule = f"rules:\n  - {{id: 'r-${{a}}-${{b}}-${{c}}', for_each: {{a: {values}, b: {values}, c: {values}}}, permit: {{}}}}\n"
    (problem,) = load(write(tmp_path, {"r.yaml": rule + "gateway: {processed_in: [DE], operated_under: [DE]}\n"})).problems
    assert problem.found == "64000 rules in one"


def test_depth_is_an_error_before_it_is_a_danger(tmp_path: Path) -> None:
    (problem,) = load(write(tmp_path, {"a.yaml": "tasks: " + "[" * 100_000})).problems
    assert f"more than {DEPTH_MAX}" in problem.found


def test_problems_are_told_up_to_a_number(tmp_path: Path) -> None:
    text = "tasks:\n" + "  - *x\n" * 5_000
    assert len(load(write(tmp_path, {"a.yaml": text})).problems) == PROBLEMS_MAX


def test_where_a_file_cannot_be_read_its_words_are_not_missed_elsewhere(tmp_path: Path) -> None:
    loaded = load_world(tmp_path, {"catalogue.yaml": "gateway: [\n", **changed("because: the law", "¦becuase: the law")})
    assert [problem.file for problem in loaded.problems] == [str(tmp_path / "catalogue.yaml"), str(tmp_path / "rules.yaml")]


@pytest.mark.parametrize(("name", "told"), [("more.yml", "rename it"), ("more/x.yaml", "looked into")])
def test_what_is_not_read_is_told(tmp_path: Path, name: str, told: str) -> None:
    (problem,) = load_world(tmp_path, {name: "tasks: [coding]\n"}).problems
    assert told in problem.wanted


def test_hidden_files_and_others_are_left_alone(tmp_path: Path) -> None:
    files = {"..data/x.yaml": "nonsense", ".rules.yaml.swp": "nonsense", "README.md": "nonsense", "rules.yaml~": "nonsense"}
    assert load_world(tmp_path, files).problems == ()


@pytest.mark.parametrize("name", ["no-such-folder", "a.yaml"])
def test_a_folder_that_is_none_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.yaml").write_text("tasks: [x]\n")
    (problem,) = load(tmp_path / name).problems
    assert "can't be read" in problem.found


def test_a_folder_without_policies_is_told(tmp_path: Path) -> None:
    assert "no `*.yaml` file" in str(load(tmp_path).problems[0])


def test_a_file_that_vanishes_is_told(tmp_path: Path) -> None:
    load_world(tmp_path)
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    (problem,) = load(tmp_path).problems
    assert "no such file" in problem.wanted


# --- what scalars mean ------------------------------------------------------------------------------------------------------


def test_norway_is_a_country(tmp_path: Path) -> None:
    loaded = load_world(tmp_path, changed("processed_in: [SG, CN]", "processed_in: [NO]"))
    # api.z.ai promises Singapore, so this label needs a source; what matters here is that NO was read as Norway
    assert [problem.found for problem in loaded.problems] == ["`processed_in` at `api.z.ai`"]
    said = "processed_in: {countries: [NO], source: a contract}"
    snapshot = load_world(tmp_path, changed("processed_in: [SG, CN]", said)).snapshot
    assert snapshot is not None
    assert next(d for d in snapshot.policy.deployments if d.id == "zai/glm").processed_in.countries == {"NO"}


@pytest.mark.parametrize("word", ["no", "No", "yes", "on", "off", "y", "n", "true", "1", "null"])
def test_no_word_is_a_boolean_where_countries_stand(tmp_path: Path, word: str) -> None:
    loaded = load_world(tmp_path, changed("processed_in: [SG, CN]", f"processed_in: [¦{word}, SG]"))
    (problem,) = loaded.problems
    assert (problem.line, problem.column) == mark_in(changed("processed_in: [SG, CN]", f"processed_in: [¦{word}, SG]"))[1:]


def scalar(text: str) -> Scalar:
    node = read_text(f"a: {text}", "x.yaml", Problems())
    assert isinstance(node, Mapping)
    value = node.get("a")
    assert isinstance(value, Scalar)
    return value


@pytest.mark.parametrize("text", ["0", "1.10", "-3", "0.165", "1e3", "12.80"])
def test_numbers_are_kept_as_written(text: str) -> None:
    assert scalar(text).number() == Decimal(text)


@pytest.mark.parametrize("text", ["010", "0x10", "1_000", ".5", "5.", "+", ".inf", ".nan", "1e999", "'1'", "1:30", "٣", "1" * 40])
def test_what_people_read_differently_is_no_number(text: str) -> None:
    assert scalar(text).number() is None


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**9, places=6))
def test_a_price_survives_to_the_digit(price: Decimal) -> None:
    assert scalar(f"{price:f}").number() == price


@given(st.text(max_size=300))
def test_no_text_makes_reading_fail(text: str) -> None:
    problems = Problems()
    node = read_text(text, "x.yaml", problems)
    assert node is not None or problems.found


TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), max_size=8)  # control characters have to be escaped
VALUES = st.recursive(TEXT, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4))


@given(VALUES)
def test_any_json_is_read(value: object) -> None:
    problems = Problems()
    node = read_text(json.dumps({"v": value}, ensure_ascii=False), "x.yaml", problems)
    assert isinstance(node, Mapping)
    assert problems.found == {}
