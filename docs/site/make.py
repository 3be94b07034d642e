"""The web site of the docs in both languages:  python docs/site/make.py  writes site/en and site/zh.

Open site/en/index.html: the pages need no server, and fetch nothing from anywhere. To build them, first
pip install -r docs/requirements.txt
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "site"
HAN = "[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef“”…]"         # Chinese characters and their punctuation
FENCE = re.compile(r"^( *```.*?^ *```)", re.S | re.M)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
SPLIT = re.compile(rf"^((?!#).*{HAN})\n(?={HAN})", re.M)     # a line end within a sentence, not behind a heading
PICTURES = (".jpg", ".png", ".svg", ".webp", ".gif")

# What differs between the two. pages: those outside docs/<language>, and what the site calls them.
LANGUAGES = {
    "en": {"language": "en", "search": "[en]", "other": ("zh", "中文"), "readme": "README.md",
           "groups": ("Start", "Networks", "Look up", "Behind it")},
    "zh": {"language": "zh", "search": "[zh, en]", "other": ("en", "English"), "readme": "README.zh-CN.md",
           "groups": ("开始", "网络", "查阅", "内部")},
}
SHARED = {"benchmarks/results.md": "results.md", "benchmarks/diary.md": "diary.md",
          "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
# The order of the pages; all that are named nowhere are about networks.
ORDER = (("index", "own_data", "path", "data", "training", "predict", "python", "export"), (), ("faq", "glossary", "formats"),
         ("architecture", "attention", "contributing", "results", "diary", "changelog", "security"))


def main():
    shutil.rmtree(SITE, ignore_errors=True)
    for language in LANGUAGES:
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), language)
            build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", SITE / language]
            subprocess.run(build, cwd=folder, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    print(f"Written: {SITE / 'en' / 'index.html'} and {SITE / 'zh' / 'index.html'}")


def prepare(folder, language):
    """Everything that MkDocs needs for one language: its settings, its theme, the pages and their pictures."""
    pages = pages_of(language)
    (folder / "docs").mkdir()
    for source, name in pages.items():
        text = with_links(source.read_text(encoding="utf-8"), source, pages, folder / "docs", language)
        (folder / "docs" / name).write_text(joined(text), encoding="utf-8")

    shutil.copytree(ROOT / "docs" / "site" / "partials", folder / "theme" / "partials")
    shutil.copy(ROOT / "docs" / "site" / "iframe-worker.js", folder / "docs")
    (folder / "mkdocs.yml").write_text(settings(language, sorted(pages.values())), encoding="utf-8")


def pages_of(language):
    """-> dict file -> its name in the site."""
    pages = {ROOT / LANGUAGES[language]["readme"]: "index.md"}
    pages |= {ROOT / source: name for source, name in SHARED.items()}
    return pages | {path: path.name for path in sorted((ROOT / "docs" / language).glob("*.md"))}


def settings(language, names):
    """mkdocs.yml: the part that both languages share, and what differs."""
    words = LANGUAGES[language]
    known = {name.removesuffix(".md") for name in names}
    rest = sorted(known - {name for group in ORDER for name in group})
    lines = [(ROOT / "docs" / "site" / "mkdocs.yml").read_text(encoding="utf-8").rstrip()]
    lines += [f"  - search: {{lang: {words['search']}}}", "nav:"]
    for title, group in zip(words["groups"], ORDER):
        lines += [f"  - {title}:"] + [f"    - {name}.md" for name in group or rest if name in known]

    # Into the sections that are there already.
    text = "\n".join(lines).replace("name: material\n", f"name: material\n  language: {words['language']}\n")
    lang, name = words["other"]
    return text.replace("extra: {", f"extra: {{alternate: true, other: {{lang: {lang}, name: {name}}}, ")


def with_links(text, source, pages, folder, language):
    """The text with links that lead somewhere in the site; a picture is copied into its folder."""
    def moved(found):
        picture, words, target, anchor = found[1], found[2], found[3], found[4] or ""
        path = (source.parent / target).resolve()
        if "://" in target or target.startswith("mailto:"):
            return found[0]
        if path in pages:
            return f"[{words}]({pages[path]}{anchor})"
        if path.suffix in PICTURES and path.is_file():
            shutil.copy(path, folder / path.name)
            return f"{picture}[{words}]({path.name})"

        # A page of the other language, or a file that is only in the repository.
        for other in set(LANGUAGES) - {language}:
            if path in pages_of(other):
                return f'<a href="../{other}/{pages_of(other)[path].replace(".md", ".html")}{anchor}">{words}</a>'
        return words
    return "".join(part if part.lstrip().startswith("```") else LINK.sub(moved, part) for part in FENCE.split(text))


def joined(text):
    """Without the line ends within Chinese sentences: a browser makes spaces of them."""
    parts = FENCE.split(text)
    return "".join(part if part.lstrip().startswith("```") else SPLIT.sub(r"\1", part) for part in parts)


if __name__ == "__main__":
    main()
