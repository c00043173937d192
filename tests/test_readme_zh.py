"""README.zh.md says what README.md says: headings, what is typed, tables, figures, pictures and links are the same.

A view is what has to be equal in both languages, as a list; the words between are for a person to compare. Each
view is tried on damaged copies as well, because a comparison that cannot fail says nothing.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGLISH = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh.md").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
TYPED = "reroll", "make", "pip", "source", "python"
EACH_OTHER = {"README.md", "README.zh.md"}


def prose(text: str) -> str:
    """The text without its fenced blocks, where `#` begins a comment and no heading."""
    return FENCE.sub("", text)


def spans(text: str) -> list[str]:
    """Code spans; one may run on into the next line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def figures(text: str) -> list[str]:
    """Numbers as they are written. The month of a date is a word in English, so it is none in Chinese."""
    return re.findall(r"\d+(?:[.,]\d+)*", re.sub(r"\d+ 月", "", text))


def headings(text: str) -> list[tuple[int, list[str]]]:
    """Level and code spans of each."""
    found = re.findall(r"^(#+) (.*)", prose(text), re.MULTILINE)
    return [(len(marks), spans(title)) for marks, title in found]


def typed(text: str) -> list[tuple[str, list[str]]]:
    """What can be typed, block by block, without comments: every line of a block that names its language, commands of
    the others (the tree of folders has a language of its own)."""
    found = []
    for language, block in FENCE.findall(text):
        lines = [re.sub(r"(^|\s+)#.*", "", line) for line in block.splitlines()]
        found.append((language, [line for line in lines if language or line.split(" ")[0] in TYPED]))
    return found


def tree(text: str) -> list[str]:
    """Folders and files that the tree of `src/reroll` names."""
    [block] = [block for _, block in FENCE.findall(text) if block.startswith("src/")]
    return re.findall(r"[\w/]+(?:/|\.py)", block)


def tables(text: str) -> list[list[list[tuple[list[str], list[str]]]]]:
    """Table → row → cell → its figures and code spans."""
    found = re.findall(r"(?:^\|.*\|\n)+", prose(text), re.MULTILINE)
    return [
        [[(figures(cell), spans(cell)) for cell in row[1:-1].split("|")] for row in table.splitlines()]
        for table in found
    ]


def pictures(text: str) -> list[str]:
    return sorted(re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", prose(text)))


def links(text: str) -> list[str]:
    """Targets, apart from the two files' links to each other."""
    found = re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", prose(text))
    return sorted(target for target in found if target not in EACH_OTHER)


def said(text: str) -> list[tuple[list[str], set[str]]]:
    """Figures and code spans of each section, which word order may shuffle: a figure in a sentence goes stale first."""
    sections = re.split(r"^#+ ", prose(text), flags=re.MULTILINE)
    return [(sorted(figures(section)), set(spans(section))) for section in sections]


def missing(text: str) -> list[str]:
    """Relative targets that are not there."""
    targets = {target.split("#")[0] for target in pictures(text) + links(text) if "://" not in target}
    return sorted(target for target in targets if not (ROOT / target).exists())


def other(match: re.Match[str]) -> str:
    """The same with other digits."""
    return match[0].translate(str.maketrans("0123456789", "1234567890"))


@pytest.mark.parametrize("view", [headings, typed, tree, tables, pictures, links, said])
def test_both_languages_have_the_same(view: Callable[[str], list[object]]):
    # Something is found in both: a view that has gone blind would find them equal.
    assert view(ENGLISH)
    assert view(CHINESE) == view(ENGLISH)


@pytest.mark.parametrize(
    ("view", "what", "instead"),
    [
        (headings, r"^## .*\n", ""),
        (headings, r"^### ", "## "),
        (headings, r"^## .*", r"\g<0> `sample`"),
        (typed, r"^reroll extend .*\n", ""),
        (typed, r"^(reroll sample .*)\n(reroll .*)\n", r"\2\n\1\n"),
        (typed, r"^reroll train .*--minutes \d+", other),
        (typed, r"^make demo", "make  demo"),
        (typed, r"^clip\.save", "clip.show"),
        (typed, r"^```bash", "```"),
        (tree, r"^  cli/|, cli/", ""),
        (tables, r"^\| `vae` .*\n", ""),
        (tables, r"^(\|.*\|).*\|$", r"\1"),
        (tables, r"(?<=\| )\d[\d,.]*(?= \|)", other),
        (tables, r"(?<=^\| )`gan`", "`vae`"),
        (tables, r"^\|[ -]+\|.*\n(\|.*\n)+", ""),
        (pictures, r"docs/pictures/demo", "docs/pictures/other"),
        (pictures, r"!(?=\[)", ""),
        (links, r"\[[^\]]*\]\(CHANGELOG\.md\)", ""),
        (links, r"\(docs/glossary\.md\)", "(docs/judge.md)"),
        (said, r"(?<!^\| )\d\.\d\d(?! \|)", other),
        (said, r"`--size auto`", "`--size`"),
    ],
)
def test_a_difference_is_noticed(
    view: Callable[[str], list[object]], what: str, instead: str | Callable[[re.Match[str]], str]
):
    damaged, count = re.subn(what, instead, CHINESE, count=1, flags=re.MULTILINE)
    assert count == 1, "the text has nothing of the kind to damage"
    assert view(damaged) != view(ENGLISH)


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_what_is_linked_to_is_there(text: str):
    assert missing(text) == []
    assert missing(text + "[more](docs/nothing.md)") == ["docs/nothing.md"]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_what_the_tree_names_is_there(text: str):
    # Each name but the first is below it.
    root, *names = tree(text)
    assert root == "src/reroll/"
    assert [name for name in names if not (ROOT / root / name).exists()] == []


def test_each_links_to_the_other_below_its_title():
    assert ENGLISH.splitlines()[:3] == ["# reroll", "", "[中文](README.zh.md)"]
    assert CHINESE.splitlines()[:3] == ["# reroll", "", "[English](README.md)"]
