"""The words that docs/en/glossary.md explains: a loss, column or key that the scripts print must be one of them."""
import re
from pathlib import Path

GLOSSARY = Path(__file__).resolve().parents[2] / "docs" / "en" / "glossary.md"
ENTRY = re.compile(r'<a id="([\w-]+)"></a>\*\*(.+?)\*\* · ([^`]+?)(?: ?[(（]((?:`[^`]+` ?)+)[)）])?(?:: |：)')


def entries(page=GLOSSARY):
    """-> list of (anchor, English name, Chinese name, [names in code])."""
    text = page.read_text(encoding="utf-8")
    joined = re.sub(r"(?<!\n)\n(?!\n)", " ", text)              # a head may be broken into two lines
    return [(anchor, english, chinese, re.findall("`([^`]+)`", codes or "")) for anchor, english, chinese, codes in ENTRY.findall(joined)]


def unexplained(names):
    """Those of the names without an entry. train_box, val_box, aux_dice and edge_dice are explained by their parts."""
    known = {code for *_, codes in entries() for code in codes}
    return {name for name in names if name not in known and re.sub("^(train_|val_)?((aux|edge)_)?", "", name) not in known}
